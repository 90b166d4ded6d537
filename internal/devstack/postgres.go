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
	// defaultPostgresPort is not 5432, so that a client which ignores the host does not end up in another PostgreSQL of this
	// machine.
	defaultPostgresPort = 54320

	// postgresName is the name of the superuser and of the database.
	postgresName = "photos"

	// postgresMaxConnections leaves room for the pools of API and workers, for psql and for tests that run in parallel, each
	// with its own database and pool.
	postgresMaxConnections = 200

	// postgresStopTimeout is how long a fast shutdown may take, which writes a checkpoint, until an immediate one follows,
	// which leaves recovery to the next start.
	postgresStopTimeout = 20 * time.Second

	// postgresReadyTimeout also covers the recovery after a crash.
	postgresReadyTimeout = 2 * time.Minute
)

// Postgres is PostgreSQL with a cluster of its own in Dir, made at the first start. It listens on a Unix socket, in a directory that
// nobody but its OS user and root can enter, and trusts whoever gets there.
type Postgres struct {
	Dir Dir

	// Port is part of the socket's name. Defaults to 54320.
	Port int

	// TCP has it listen on that port of 127.0.0.1 as well, for roles that have a password.
	TCP bool

	// Disposable trades durability for speed, for tests: after a crash the cluster may be damaged.
	Disposable bool
}

func (p Postgres) port() int {
	if p.Port == 0 {
		return defaultPostgresPort
	}
	return p.Port
}

// DSN is the URL of the database, for pgx as for psql.
func (p Postgres) DSN() string { return p.dsn(postgresName) }

func (p Postgres) dsn(database string) string {
	// In a URL's query a plus is a space to Go but a plus to libpq.
	host := strings.ReplaceAll(url.QueryEscape(p.Dir.PostgresSocket()), "+", "%20")
	return fmt.Sprintf("postgres://%s@/%s?host=%s&port=%d", postgresName, database, host, p.port())
}

// Process describes the server. It fails when PostgreSQL is not installed, or when Dir is where it cannot run.
func (p Postgres) Process() (Process, error) {
	if err := checkSocketPath(p.socket()); err != nil {
		return Process{}, err
	}
	bin, err := findPostgres(p.Dir.PostgresData())
	if err != nil {
		return Process{}, err
	}
	credential, err := serverCredential()
	if err != nil {
		return Process{}, err
	}
	if err := checkReachable(bin, credential); err != nil {
		return Process{}, fmt.Errorf("%w; set POSTGRES_BIN to an installation elsewhere", err)
	}
	if err := checkReachable(p.Dir.Root, credential); err != nil {
		return Process{}, fmt.Errorf("%w; set DATA_DIR to a directory elsewhere", err)
	}

	process := Process{
		Name:         "postgres",
		Path:         filepath.Join(bin, "postgres"),
		Args:         p.args(),
		Env:          postgresEnv(),
		Dir:          "/",
		Credential:   credential,
		LogFile:      p.Dir.Log("postgres"),
		PIDFile:      p.Dir.PIDFile("postgres"),
		Prepare:      func(ctx context.Context) error { return p.prepare(ctx, bin, credential) },
		Ready:        p.ready,
		ReadyTimeout: postgresReadyTimeout,
		// Fast shutdown, which disconnects the clients, then immediate shutdown. The first that PostgreSQL would offer, the
		// smart one of SIGTERM, waits until all clients have gone by themselves.
		StopSignals: []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT},
		StopTimeout: postgresStopTimeout,
	}
	if p.Disposable {
		process.StopSignals = []syscall.Signal{syscall.SIGQUIT}
	}
	return process, nil
}

func (p Postgres) socket() string {
	return filepath.Join(p.Dir.PostgresSocket(), fmt.Sprintf(".s.PGSQL.%d", p.port()))
}

// args has every setting, so that none is hidden in the cluster's postgresql.conf and new ones reach old clusters.
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
		"max_connections=" + strconv.Itoa(postgresMaxConnections),
		"timezone=UTC",
		"log_timezone=UTC",
		"log_destination=stderr",
		"logging_collector=off",
		"log_line_prefix=%m [%p] %q%d ",
	}
	if p.Disposable {
		settings = append(settings,
			"fsync=off",
			"synchronous_commit=off",
			"full_page_writes=off",
			"shared_buffers=32MB",
			// Less to write when tests fill and drop databases.
			"wal_level=minimal",
			"max_wal_senders=0",
			// A vacuum in a template database would hold up those who clone it.
			"autovacuum=off",
		)
	}
	args := []string{"-D", p.Dir.PostgresData()}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	return args
}

// postgresEnv is the environment of PostgreSQL's programs: none of the PG… variables, which would change what they do, and
// messages in English.
func postgresEnv() []string {
	env := []string{"LC_ALL=C", "TZ=UTC"}
	for _, name := range []string{"PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// prepare makes the directories and, at the first start, the cluster, and clears up after a server that was killed.
func (p Postgres) prepare(ctx context.Context, bin string, credential *syscall.Credential) error {
	if err := p.Dir.Create(); err != nil {
		return err
	}
	if err := makeServerDir(p.Dir.PostgresSocket(), credential); err != nil {
		return err
	}
	if err := p.initCluster(ctx, bin, credential); err != nil {
		return err
	}
	if err := p.recoverCluster(ctx); err != nil {
		return err
	}
	if p.TCP {
		return CheckPort(net.JoinHostPort(loopback, strconv.Itoa(p.port())), "PostgreSQL", "DEV_POSTGRES_PORT")
	}
	return nil
}

// recoverCluster ends what may be left of a server that was killed, and takes away what would keep the new one from starting.
func (p Postgres) recoverCluster(ctx context.Context) error {
	// What processes say of themselves has no symbolic links.
	data, err := filepath.EvalSymlinks(p.Dir.PostgresData())
	if err != nil {
		return err
	}
	pidFile := filepath.Join(data, "postmaster.pid")
	text, err := os.ReadFile(pidFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	first, rest, _ := strings.Cut(string(text), "\n")
	pid, _ := strconv.Atoi(first)

	// A server that our own PID file does not know, such as one started by hand.
	if isPostgresOf(pid, data) || isPostgresOf(pid, p.Dir.PostgresData()) {
		err := identify(pid).terminate(ctx, []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT}, postgresStopTimeout)
		if err != nil {
			return fmt.Errorf("ending process %d, which uses %s: %w", pid, data, err)
		}
	}

	// Its servants leave by themselves once they notice that it has gone, which one in a computation does not. They have the
	// cluster's shared memory, so the new server could not start.
	for _, servant := range processesIn(data) {
		if !strings.HasPrefix(commandLine(servant), "postgres: ") {
			continue
		}
		if err := identify(servant).terminate(ctx, []syscall.Signal{syscall.SIGQUIT}, postgresStopTimeout); err != nil {
			return fmt.Errorf("ending process %d, which uses %s: %w", servant, data, err)
		}
	}

	// The number may belong to somebody else by now: usual in a container, where the same few are given out each time.
	// PostgreSQL would take that process for the old server and refuse to start. It does not do so for its own parent, though,
	// which we are going to be; the rest of the file must stay, for PostgreSQL's own check of the shared memory.
	if err := syscall.Kill(pid, 0); pid > 0 && (err == nil || errors.Is(err, syscall.EPERM)) {
		if err := overwriteFile(pidFile, fmt.Sprintf("%d\n%s", os.Getpid(), rest)); err != nil {
			return err
		}
	}
	if err := os.Remove(p.socket() + ".lock"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// isPostgresOf reports whether the process is PostgreSQL on this cluster, by its command line.
func isPostgresOf(pid int, data string) bool {
	if pid <= 0 {
		return false
	}
	program, args, _ := strings.Cut(commandLine(pid), " ")
	return filepath.Base(program) == "postgres" && strings.Contains(" "+args+" ", " "+data+" ")
}

// overwriteFile keeps the file's owner and mode. It leaves a missing file alone.
func overwriteFile(path, content string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = file.WriteString(content)
	return errors.Join(err, file.Close())
}

// ready connects, and creates the database at the first start.
func (p Postgres) ready(ctx context.Context) error {
	err := p.exec(ctx, postgresName, "SELECT")
	if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) && pgErr.Code == invalidCatalogName {
		return p.exec(ctx, "postgres", "CREATE DATABASE "+postgresName)
	}
	return err
}

// invalidCatalogName is PostgreSQL's code for "database does not exist".
const invalidCatalogName = "3D000"

func (p Postgres) exec(ctx context.Context, database, sql string) error {
	conn, err := pgx.Connect(ctx, p.dsn(database))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, sql)
	return err
}
