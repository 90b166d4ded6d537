// Package postgres holds all SQL of photo-processor, one file per concern:
//
//	runs.go        a run's writes, which its run ID and start fence
//	reconcile.go   the reconciler's queries
//	lock.go        the lock under which files are deleted
//	photos.go      the API's reads, and the photos that it adds
//	thumbnails.go  the rows of a photo's thumbnails
//	telemetry.go   traces, metrics, and the backlog
//
// Most methods take one round trip. They return photo.ErrNotFound,
// photo.ErrSuperseded, or ErrUnavailable for a transient error; any other error
// is a defect. Every method may be retried, but AddPhotos may then add photos
// twice.
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

// ErrUnavailable is a transient error: PostgreSQL could not be reached, or the
// connection broke. The statement may have been executed.
var ErrUnavailable = errors.New("PostgreSQL cannot be reached")

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
	maxConns int32
}

// Open returns a pool of at most maxConns connections to the database at url.
// It does not connect, because a process may start before its database. The
// caller must close the pool.
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
// If the context ends first, it does not migrate.
func (db *DB) MigrateWhenReady(ctx context.Context, log *slog.Logger) error {
	unavailable := func(err error) bool { return errors.Is(err, ErrUnavailable) }
	return health.WaitUntilReady(ctx, log, "PostgreSQL", unavailable, db.Migrate)
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

// retryRead retries a read that failed because of a broken connection. After a
// restart of the server, every connection of the pool may be broken, so that
// there are up to maxConns retries. It does not retry if it cannot connect or
// the context has ended.
func retryRead[T any](db *DB, read func() (T, error)) (value T, err error) {
	for range db.maxConns + 1 {
		value, err = read()
		_, noServer := errors.AsType[*pgconn.ConnectError](err)
		if !errors.Is(err, ErrUnavailable) || noServer || errors.Is(err, context.DeadlineExceeded) {
			break
		}
	}
	return value, err
}

// translate wraps transient errors of pgx in ErrUnavailable. It is the only
// function that inspects them, and goes by SQLSTATE, never by message.
// Transient are class 08 (connection), class 53 (resources, such as too many
// connections or a full disk), 57P (shutdown, restart), 25006 (a standby before
// its promotion), 40001 (serialization failure), 40P01 (deadlock), broken
// connections and timeouts. See
// https://www.postgresql.org/docs/15/errcodes-appendix.html.
func translate(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch {
		case strings.HasPrefix(pgErr.Code, "08"), strings.HasPrefix(pgErr.Code, "53"),
			strings.HasPrefix(pgErr.Code, "57P"), pgErr.Code == "25006",
			pgErr.Code == "40001", pgErr.Code == "40P01":
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
