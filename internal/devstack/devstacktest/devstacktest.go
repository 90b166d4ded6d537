// Package devstacktest starts PostgreSQL, Temporal's development server and an
// S3 server for tests, typically in TestMain:
//
//	func TestMain(m *testing.M) { os.Exit(run(m)) }
//
//	func run(m *testing.M) int {
//		dsn, stop, err := devstacktest.Postgres(context.Background())
//		if err != nil {
//			fmt.Fprintln(os.Stderr, err)
//			return 1
//		}
//		defer stop()
//		…
//		return m.Run()
//	}
//
// Every call starts a new server with an empty directory, so that packages can be
// tested in parallel. The servers do not sync to disk.
//
// stop ends a server and deletes its directory. When a test panics in another
// goroutine, exceeds go test's deadline or is killed, no deferred call runs: the
// kernel then kills the servers, and a waiting shell deletes their directories.
package devstacktest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/photo-processor/photo-processor/internal/devstack"
)

// HTTPClient is for tests instead of http.DefaultClient, whose idle connections
// httptest.Server.Close closes, also those of parallel tests.
var HTTPClient = &http.Client{Transport: &http.Transport{}}

// portAttempts is how often a server is started on another port because another
// process has taken the port.
const portAttempts = 3

// Postgres starts PostgreSQL with an empty database. The role in dsn is a
// superuser, so that tests can create databases. stop may be called again.
func Postgres(ctx context.Context) (dsn string, stop func(), err error) {
	var errs []error
	for _, parent := range postgresParents() {
		dsn, stop, err = startPostgres(ctx, parent)
		if err == nil {
			return dsn, stop, nil
		}
		errs = append(errs, err)
	}
	return "", nil, errors.Join(errs...)
}

// postgresParents lists directories for PostgreSQL's data; the first that works is
// used. A file system in memory halves the time to create a database. TMPDIR may
// be too long for a socket, or not accessible to PostgreSQL's user.
func postgresParents() []string {
	if dir := os.Getenv("TMPDIR"); dir != "" {
		return []string{dir, "/tmp"}
	}
	if memoryDirHasRoom() {
		return []string{memoryDir, "/tmp"}
	}
	return []string{"/tmp"}
}

const (
	// memoryDir is in memory. In a container it has 64 MiB by default.
	memoryDir = "/dev/shm"

	// memoryDirRoom is enough for the servers of all packages: each takes 60 MiB, and
	// every database another 8.
	memoryDirRoom = 2 << 30
)

func memoryDirHasRoom() bool {
	var stat syscall.Statfs_t
	err := syscall.Statfs(memoryDir, &stat)
	return err == nil && stat.Bavail*uint64(stat.Bsize) >= memoryDirRoom
}

func startPostgres(ctx context.Context, parent string) (string, func(), error) {
	d, err := newServerDir(parent)
	if err != nil {
		return "", nil, err
	}
	postgres := devstack.Postgres{Dir: d.dir, Disposable: true}
	process, err := postgres.Process()
	if err != nil {
		d.remove()
		return "", nil, err
	}
	stop, err := d.start(ctx, process)
	return postgres.DSN(), stop, err
}

// Temporal starts the development server without the Web UI, and returns its host
// and port. The namespace is "default". Settings are values of the server's
// dynamic configuration, such as "frontend.namespaceRPS=10". stop may be called
// again. See [devstack.TemporalCLI] for the program, which may have to be built
// for minutes.
func Temporal(ctx context.Context, settings ...string) (address string, stop func(), err error) {
	cli, err := devstack.TemporalCLI(ctx, os.Stderr)
	if err != nil {
		return "", nil, err
	}
	for range portAttempts {
		address, stop, err = startTemporal(ctx, cli, settings)
		if !portTaken(err) {
			break
		}
	}
	return address, stop, err
}

// WithTemporal is for TestMain: it starts a development server, sets
// TEMPORAL_ADDRESS, calls run, and returns its exit code.
func WithTemporal(run func() int) int {
	address, stop, err := Temporal(context.Background())
	if err == nil {
		defer stop()
		err = os.Setenv("TEMPORAL_ADDRESS", address)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return run()
}

// portTaken reports whether another process has taken the port.
func portTaken(err error) bool {
	return errors.Is(err, syscall.EADDRINUSE) || err != nil && strings.Contains(err.Error(), syscall.EADDRINUSE.Error())
}

func startTemporal(ctx context.Context, cli string, settings []string) (string, func(), error) {
	port, err := devstack.FreePort()
	if err != nil {
		return "", nil, err
	}
	d, err := newServerDir(os.TempDir())
	if err != nil {
		return "", nil, err
	}
	temporal := devstack.Temporal{Dir: d.dir, CLI: cli, Port: port, Disposable: true}
	process, err := temporal.Process()
	if err != nil {
		d.remove()
		return "", nil, err
	}
	for _, setting := range settings {
		process.Args = append(process.Args, "--dynamic-config-value", setting)
	}
	stop, err := d.start(ctx, process)
	return temporal.Address(), stop, err
}

// start starts the server in the directory. stop stops the server and removes the
// directory; so does an error.
func (d *serverDir) start(ctx context.Context, process devstack.Process) (stop func(), err error) {
	child, err := process.Start(ctx)
	if err != nil {
		d.remove()
		return nil, err
	}
	return sync.OnceFunc(func() {
		if err := child.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		d.remove()
	}), nil
}
