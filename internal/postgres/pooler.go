package postgres

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// unsuitable is the key of a connection's custom data if the connection would
// prepare statements behind a pooler.
const unsuitable = "unsuitable"

// detectPooler makes the pool use prepared statements if it is connected to
// PostgreSQL, and none if it is connected to a pooler, which may give each
// transaction another session. Without prepared statements, pgx caches the types
// of their parameters instead, and the server parses and plans each statement:
// the statements of a run take twice the time, 1.8 ms instead of 0.9 ms.
//
// A pooler sends a process ID of its own when a client connects, because it has
// to forward requests to cancel a statement. That ID is not the session's.
func (db *DB) detectPooler(cfg *pgxpool.Config) {
	cfg.BeforeConnect = func(_ context.Context, cfg *pgx.ConnConfig) error {
		if db.pooled.Load() {
			cfg.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
		}
		return nil
	}
	cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if conn.Config().DefaultQueryExecMode == pgx.QueryExecModeCacheDescribe {
			return nil
		}
		var pid uint32
		if err := conn.QueryRow(ctx, `SELECT pg_backend_pid()`, pgx.QueryExecModeSimpleProtocol).Scan(&pid); err != nil {
			return fmt.Errorf("detect a pooler: %w", err)
		}
		if pid == conn.PgConn().PID() {
			return nil
		}
		conn.PgConn().CustomData()[unsuitable] = true
		if !db.pooled.Swap(true) {
			slog.InfoContext(ctx, "connected to PostgreSQL through a pooler: statements are not prepared; default_query_exec_mode in DATABASE_URL changes that")
		}
		return nil
	}
	// The pool closes a connection that is rejected here, and takes another one.
	cfg.PrepareConn = func(_ context.Context, conn *pgx.Conn) (bool, error) {
		return conn.PgConn().CustomData()[unsuitable] == nil, nil
	}
}
