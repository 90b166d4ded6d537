// Package postgres holds all SQL of photo-processor, one file per concern:
//
//	runs.go        what a run of the workflow writes, fenced by that run
//	photos.go      what the API reads and adds
//	thumbnails.go  the rows of a photo's thumbnails
//
// Every method is one round trip where it can be. Errors are photo.ErrNotFound
// and photo.ErrSuperseded, ErrUnavailable when the database cannot be reached
// (every method is safe to call again), or else a defect.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/photo-processor/photo-processor/internal/health"
	"github.com/photo-processor/photo-processor/migrations"
)

// ErrUnavailable says that PostgreSQL could not be reached, or went away
// half-way. Nothing is wrong with the request; it may be sent again.
var ErrUnavailable = errors.New("PostgreSQL cannot be reached")

const (
	// connectTimeout bounds one attempt to connect, so that a host which
	// swallows packets is noticed well before a local activity's time is up.
	connectTimeout = 2 * time.Second
	// healthCheckPeriod is how often idle connections are looked at; a
	// connection that sat idle for over a second is also checked before use.
	healthCheckPeriod = 30 * time.Second
)

// DB is a pool of connections to one database.
type DB struct {
	pool     *pgxpool.Pool
	maxConns int32
}

// Open prepares a pool of at most maxConns connections for the database at
// url. It does not connect: a process may start before its database.
func Open(url string, maxConns int32, options ...Option) (*DB, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err // pgx redacts the password
	}
	cfg.MaxConns = maxConns
	cfg.HealthCheckPeriod = healthCheckPeriod
	cfg.ConnConfig.ConnectTimeout = connectTimeout
	if cfg.ConnConfig.RuntimeParams["application_name"] == "" {
		cfg.ConnConfig.RuntimeParams["application_name"] = "photo-processor"
	}
	for _, option := range options {
		option(cfg)
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	if err != nil {
		return nil, err
	}
	return &DB{pool: pool, maxConns: maxConns}, nil
}

// Close waits for the connections in use to be returned, and closes all.
func (db *DB) Close() { db.pool.Close() }

// Ping reports whether the database answers, and has the schema.
func (db *DB) Ping(ctx context.Context) error {
	_, err := db.pool.Exec(ctx, `SELECT FROM photos LIMIT 0`)
	return translate(err)
}

// Migrate brings the schema up to date.
func (db *DB) Migrate(ctx context.Context) error {
	return db.withConn(ctx, migrations.Apply)
}

// MigrateWhenReady migrates as soon as the database can be reached; not at all if
// the context is done before.
func (db *DB) MigrateWhenReady(ctx context.Context, log *slog.Logger) error {
	unavailable := func(err error) bool { return errors.Is(err, ErrUnavailable) }
	return health.WaitUntilReady(ctx, log, "PostgreSQL", unavailable, db.Migrate)
}

// Reset drops all photos and thumbnails, and makes the schema anew. All other
// connections to the database are ended: they may have cached what is gone.
func (db *DB) Reset(ctx context.Context) error {
	db.pool.Reset()
	return db.withConn(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		if err := migrations.Reset(ctx, conn); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid()`)
		return err
	})
}

func (db *DB) withConn(ctx context.Context, do func(context.Context, *pgx.Conn) error) error {
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		return translate(err)
	}
	defer conn.Release()
	return translate(do(ctx, conn.Conn()))
}

// reread repeats a read whose connection had been ended by a restart of the
// server, which a pool may notice only when it uses it: once for each connection
// that it can have. Where there is no server to connect to, it gives up at once.
func reread[T any](db *DB, read func() (T, error)) (value T, err error) {
	for range db.maxConns + 1 {
		value, err = read()
		_, noServer := errors.AsType[*pgconn.ConnectError](err)
		if !errors.Is(err, ErrUnavailable) || noServer || errors.Is(err, context.DeadlineExceeded) {
			break
		}
	}
	return value, err
}

// translate is the one place that reads PostgreSQL's errors. It goes by
// SQLSTATE, never by message: classes 08 (connection), 53 (resources, such as
// too many connections or a full disk), 57P (shutdown, restart) and 25006 (a
// standby that took over has not been promoted yet) pass by themselves, as do
// broken connections and time-outs. https://www.postgresql.org/docs/15/errcodes-appendix.html
func translate(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch {
		case strings.HasPrefix(pgErr.Code, "08"), strings.HasPrefix(pgErr.Code, "53"),
			strings.HasPrefix(pgErr.Code, "57P"), pgErr.Code == "25006",
			pgErr.Code == "40001", pgErr.Code == "40P01": // serialization failure, deadlock
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		return err
	}
	if isConnectionError(err) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

func isConnectionError(err error) bool {
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if _, ok := errors.AsType[net.Error](err); ok { // also context.DeadlineExceeded and syscall.Errno
		return true
	}
	return pgconn.Timeout(err) || pgconn.SafeToRetry(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
