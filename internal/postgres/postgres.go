// Package postgres holds all SQL of photo-processor, one file per concern:
//
//	runs.go        a run's writes, which its run ID and start fence
//	reconcile.go   the reconciler's queries
//	photos.go      the API's reads of photos, and the photos that it adds
//	previews.go    lists with thumbnails, counts and changes, for the page
//	batches.go     batches: their photos, progress and results
//	thumbnails.go  the rows of a photo's thumbnails
//	audit.go       the rows of all thumbnails, for the comparison with the bucket
//	errors.go      which errors are transient, and which sessions are replaced
//	pooler.go      what changes behind a pooler such as PgBouncer
//	telemetry.go   traces, metrics, and the backlog
//
// Most methods take one round trip. They return photo.ErrNotFound,
// photo.ErrSuperseded, or ErrUnavailable for an infrastructure error. Any other
// error is a defect, or is caused by a value of the statement. Every method may
// be retried, but AddPhotos may then add photos twice.
package postgres

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/photo-processor/photo-processor/internal/health"
	"github.com/photo-processor/photo-processor/migrations"
)

const (
	// connectTimeout bounds one attempt to connect. It is shorter than the 3
	// seconds of a local activity, so that a host that drops packets is
	// reported as such.
	connectTimeout = 2 * time.Second
	// healthCheckPeriod is the time between checks of idle connections. The
	// pool also pings a connection before use that was idle for over a second.
	healthCheckPeriod = 30 * time.Second
)

// DB is a pool of connections to one database.
type DB struct {
	pool     *pgxpool.Pool
	opened   atomic.Bool // pool is set
	pooled   atomic.Bool // a pooler is between this process and PostgreSQL
	maxConns int32
}

// Open returns a pool of at most maxConns connections to the database at url.
// It does not connect, because a process may start before its database. The
// url may set pgx's default_query_exec_mode; see pooler.go for its default. The
// caller must close the pool.
func Open(url string, maxConns int32, options ...Option) (*DB, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("open the database: its URL is not a PostgreSQL connection string") // pgx's error quotes it, and may miss a password in it
	}
	cfg.MaxConns = maxConns
	cfg.HealthCheckPeriod = healthCheckPeriod
	cfg.ConnConfig.ConnectTimeout = connectTimeout
	if cfg.ConnConfig.RuntimeParams["application_name"] == "" {
		cfg.ConnConfig.RuntimeParams["application_name"] = "photo-processor"
	}
	// The default is the database's own encoding: URLs are UTF-8, and pgx
	// refuses the simple protocol with another one.
	if cfg.ConnConfig.RuntimeParams["client_encoding"] == "" {
		cfg.ConnConfig.RuntimeParams["client_encoding"] = "UTF8"
	}
	db := &DB{maxConns: maxConns}
	if !strings.Contains(url, "default_query_exec_mode") {
		db.detectPooler(cfg)
	}
	cfg.ConnConfig.OnPgError = db.onPgError
	for _, option := range options {
		option(cfg)
	}
	if db.pool, err = pgxpool.NewWithConfig(context.Background(), cfg); err != nil {
		return nil, err
	}
	db.opened.Store(true)
	return db, nil
}

// Close closes all connections, after waiting for those in use.
func (db *DB) Close() { db.pool.Close() }

// Ping returns an error unless the database answers and has the schema.
func (db *DB) Ping(ctx context.Context) error {
	_, err := db.pool.Exec(ctx, `SELECT FROM photos LIMIT 0`)
	return translate(err)
}

// Migrate brings the schema up to date.
func (db *DB) Migrate(ctx context.Context) error {
	return db.withConn(ctx, migrations.Apply)
}

// MigrateWhenReady waits until the database can be reached, and then migrates.
// If the context ends first, it does not migrate. It returns an error that will
// probably not pass: a rejected login, missing privileges, a database that does
// not exist, a migration that fails.
func (db *DB) MigrateWhenReady(ctx context.Context, log *slog.Logger) error {
	isTransient := func(err error) bool { return errors.Is(err, ErrUnavailable) && !isConfigurationError(err) }
	return health.WaitUntilReady(ctx, log, "PostgreSQL", isTransient, db.Migrate)
}

// Reset drops all photos and thumbnails, and creates the schema again. It ends
// all other connections to the database, which may have cached statements and
// types of the dropped schema.
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
