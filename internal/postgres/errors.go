package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrUnavailable is an infrastructure error: PostgreSQL cannot be reached, the
// connection broke, or the server rejects statements for a reason that is not
// in their values. The statement may have been executed.
var ErrUnavailable = errors.New("PostgreSQL cannot be used")

// translate wraps infrastructure errors in ErrUnavailable. It is the only
// function that inspects the errors of pgx, and goes by SQLSTATE, never by
// message. Errors of classes 22 (data exception) and 23 (integrity constraint
// violation) are caused by a statement's values. All others, also unknown ones,
// are the server's: a restart, a standby before its promotion, a full disk, too
// many connections, a rejected login, missing privileges, a missing schema. See
// https://www.postgresql.org/docs/15/errcodes-appendix.html.
func translate(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	isInfrastructure := isConnectionError(err)
	if code := SQLState(err); code != "" {
		isInfrastructure = !strings.HasPrefix(code, "22") && !strings.HasPrefix(code, "23")
	}
	if isInfrastructure {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// SQLState returns the SQLSTATE of a server's error, and "" for other errors.
func SQLState(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code
	}
	return ""
}

// isConnectionError reports whether pgx could not connect, the connection broke,
// or the deadline passed before a connection was free or the server answered. pgx
// returns the errors of an established connection as the network returns them:
// a *net.OpError or the end of the stream. An interface such as net.Error would
// match more, such as every errno of a file.
func isConnectionError(err error) bool {
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return true
	}
	return pgconn.Timeout(err) || pgconn.SafeToRetry(err) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// isConfigurationError reports whether an operator must act: classes 28
// (authorization), 3D (no such database) and 42 (privileges, schema).
func isConfigurationError(err error) bool {
	code := SQLState(err)
	return strings.HasPrefix(code, "28") || strings.HasPrefix(code, "3D") || strings.HasPrefix(code, "42")
}

// isStaleSession reports whether the server rejected a statement, before
// executing it, because of the session's state: a read-only transaction (25006:
// the session began before a failover), or a prepared statement that is gone,
// exists already or no longer fits the schema (26000, 42P05, 0A000).
func isStaleSession(code string) bool {
	return slices.Contains([]string{"25006", "26000", "42P05", "0A000"}, code)
}

// isLostSession reports whether the server has ended the session: a shutdown, a
// crash (57P), or a broken connection (08).
func isLostSession(code string) bool {
	return strings.HasPrefix(code, "57P") || strings.HasPrefix(code, "08")
}

// onPgError returns false for errors after which a session is useless: pgx then
// closes the connection. After a failover or a shutdown, the other sessions of
// the pool are useless, too.
func (db *DB) onPgError(_ *pgconn.PgConn, err *pgconn.PgError) bool {
	isUseless := isStaleSession(err.Code) || isLostSession(err.Code)
	if isUseless && db.opened.Load() {
		db.pool.Reset()
	}
	return !isUseless && !strings.EqualFold(err.Severity, "FATAL")
}

// retryStale repeats a statement on a new session if the server has rejected it
// because of the old one's state.
func retryStale[T any](do func() (T, error)) (T, error) {
	value, err := do()
	if isStaleSession(SQLState(err)) {
		value, err = do()
	}
	return value, err
}

// retryRead retries a read that failed because of a broken connection. After a
// restart of the server, every connection of the pool may be broken, so that
// there are up to maxConns retries. It does not retry if it cannot connect, the
// server has rejected the statement, or the context has ended.
func retryRead[T any](db *DB, read func() (T, error)) (value T, err error) {
	for range db.maxConns + 1 {
		value, err = read()
		_, noServer := errors.AsType[*pgconn.ConnectError](err)
		code := SQLState(err)
		rejected := code != "" && !isStaleSession(code) && !isLostSession(code)
		if !errors.Is(err, ErrUnavailable) || noServer || rejected || errors.Is(err, context.DeadlineExceeded) {
			break
		}
	}
	return value, err
}
