package devstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// defaultPostgresPort is not 5432, so that a client that ignores the host
	// does not reach another PostgreSQL of this machine.
	defaultPostgresPort = 54320

	// postgresName is the name of the superuser and of the database.
	postgresName = "photos"

	// postgresStopTimeout bounds a fast shutdown, which writes a checkpoint. An
	// immediate one follows, which leaves recovery to the next start.
	postgresStopTimeout = 20 * time.Second

	// postgresReadyTimeout includes recovery after a crash.
	postgresReadyTimeout = 2 * time.Minute
)

// Postgres is a PostgreSQL server whose data directory is in Dir, created at
// the first start. It listens on a Unix socket in a directory that only its OS
// user and root can enter, and trusts whoever connects there.
type Postgres struct {
	Dir  Dir
	Port int // part of the socket's name. Defaults to 54320

	// TCP makes it listen on that port of 127.0.0.1 as well, for roles that
	// have a password.
	TCP bool

	// Disposable trades durability for speed, for tests.
	Disposable bool
}

func (p Postgres) port() int {
	if p.Port == 0 {
		return defaultPostgresPort
	}
	return p.Port
}

// DSN is the URL of the database, for pgx and for psql.
func (p Postgres) DSN() string { return p.dsn(postgresName) }

func (p Postgres) dsn(database string) string {
	// In a URL's query a plus is a space to Go but a plus to libpq.
	host := strings.ReplaceAll(url.QueryEscape(p.Dir.PostgresSocket()), "+", "%20")
	return fmt.Sprintf("postgres://%s@/%s?host=%s&port=%d", postgresName, database, host, p.port())
}

// Process describes the server. The error says that PostgreSQL is not installed
// or cannot run in Dir.
func (p Postgres) Process() (Process, error) {
	if err := checkSocketPath(p.socket()); err != nil {
		return Process{}, err
	}
	bin, err := findPostgres()
	if err != nil {
		return Process{}, err
	}
	credential, err := PostgresUser()
	if err != nil {
		return Process{}, err
	}
	process := Process{
		Name: "postgres", Path: filepath.Join(bin, "postgres"), Args: p.args(),
		Env: postgresEnv(), Dir: "/", Credential: credential,
		LogFile: p.Dir.Log("postgres"), PIDFile: p.Dir.PIDFile("postgres"),
		Prepare: func(ctx context.Context) error { return p.prepare(ctx, bin, credential) },
		Ready:   p.ready, ReadyTimeout: postgresReadyTimeout,
		// Fast shutdown, which disconnects clients, then immediate shutdown.
		// SIGTERM would wait until all clients have disconnected.
		StopSignals: []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT},
		StopTimeout: postgresStopTimeout,
		DeathSignal: syscall.SIGQUIT,
	}
	if p.Disposable {
		process.StopSignals = []syscall.Signal{syscall.SIGQUIT}
	}
	return process, nil
}

func (p Postgres) socket() string {
	return filepath.Join(p.Dir.PostgresSocket(), fmt.Sprintf(".s.PGSQL.%d", p.port()))
}

// args has every setting; postgresql.conf has none, so that new ones reach
// existing data directories.
func (p Postgres) args() []string {
	listen := ""
	if p.TCP {
		listen = loopback
	}
	settings := []string{
		"listen_addresses=" + listen,
		"port=" + strconv.Itoa(p.port()),
		// A list, in which quotes keep a directory together.
		`unix_socket_directories="` + strings.ReplaceAll(p.Dir.PostgresSocket(), `"`, `""`) + `"`,
		"unix_socket_permissions=0700",
		"max_connections=200", // for API, workers, psql, and tests that run in parallel
		"timezone=UTC",
		"log_timezone=UTC",
		"log_destination=stderr",
		"logging_collector=off",
		"log_line_prefix=%m [%p] %q%d ",
	}
	if p.Disposable {
		settings = append(settings,
			"fsync=off", "synchronous_commit=off", "full_page_writes=off",
			"shared_buffers=32MB",
			"wal_level=minimal", "max_wal_senders=0",
			// A vacuum in a template database would block those who clone it.
			"autovacuum=off",
		)
	}
	args := []string{"-D", p.Dir.PostgresData()}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	return args
}

// postgresEnv has none of the PG… variables, which would change what
// PostgreSQL's programs do, and makes their messages English.
func postgresEnv() []string {
	env := []string{"LC_ALL=C", "TZ=UTC"}
	for _, name := range []string{"PATH", "LD_LIBRARY_PATH", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// prepare creates the data directory at the first start, and clears up after a
// server that was killed.
func (p Postgres) prepare(ctx context.Context, bin string, credential *syscall.Credential) error {
	if err := p.Dir.Create(); err != nil {
		return err
	}
	if err := mkdirFor(p.Dir.PostgresSocket(), credential); err != nil {
		return err
	}
	if err := p.initDataDir(ctx, bin, credential); err != nil {
		return err
	}
	data, err := filepath.EvalSymlinks(p.Dir.PostgresData())
	if err != nil {
		return err
	}
	if err := endPostgres(ctx, data); err != nil {
		return err
	}
	// PostgreSQL refuses to start if another process of its user has the number
	// in these files by now. No server uses the directory any more.
	if err := errors.Join(removeIfExists(filepath.Join(data, "postmaster.pid")), removeIfExists(p.socket()+".lock")); err != nil {
		return err
	}
	if p.TCP {
		return CheckPort(net.JoinHostPort(loopback, strconv.Itoa(p.port())), "PostgreSQL", "DEV_POSTGRES_PORT")
	}
	return nil
}

// invalidCatalogName is PostgreSQL's code for a database that does not exist.
const invalidCatalogName = "3D000"

// ready connects, and creates the database at the first start.
func (p Postgres) ready(ctx context.Context) error {
	err := p.exec(ctx, postgresName, "SELECT")
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == invalidCatalogName {
		return p.exec(ctx, "postgres", "CREATE DATABASE "+postgresName)
	}
	return err
}

func (p Postgres) exec(ctx context.Context, database, sql string) error {
	conn, err := pgx.Connect(ctx, p.dsn(database))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, sql)
	return err
}
