// Package devstacktest starts PostgreSQL, Temporal's development server and an S3 server for tests, typically from TestMain:
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
// Every call starts a server of its own with an empty directory, so that packages can be tested at the same time. A server may
// lose everything in a crash: that is what makes it quick.
//
// Nothing is left behind, whichever way the test ends. stop is the orderly one. But no deferred call runs when a test panics in
// another goroutine, exceeds the deadline of go test or is killed. Then the kernel ends the servers together with the test, and a
// shell that has been waiting for just this deletes their directory.
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

// HTTPClient is what a test asks servers with, instead of http.DefaultClient: when an httptest.Server is closed, it closes the
// default transport's idle connections too, and the request of a parallel test may fail with them.
var HTTPClient = &http.Client{Transport: &http.Transport{}}

// portAttempts is how often a server is started on another port after somebody was quicker to take the one before.
const portAttempts = 3

// Postgres starts PostgreSQL with an empty database, which dsn names and owns: the role in it is the superuser, so tests can make
// databases of their own. Call stop when done; calling it again does nothing.
func Postgres(ctx context.Context) (dsn string, stop func(), err error) {
	var errs []error
	for _, parent := range tempDirs() {
		dsn, stop, err = startPostgres(ctx, parent)
		if err == nil {
			return dsn, stop, nil
		}
		errs = append(errs, err)
	}
	return "", nil, errors.Join(errs...)
}

// tempDirs are where PostgreSQL may be, the first that works: TMPDIR, or else a file system in memory that has room, which halves
// the time to make a cluster or a database while other packages are being compiled and tested. The directory of temporary files may be one that only root can enter, while
// PostgreSQL must run as somebody else, or its name may be too long for a socket in it.
func tempDirs() []string {
	if dir := os.Getenv("TMPDIR"); dir != "" {
		return []string{dir, "/tmp"}
	}
	if memoryDirHasRoom() {
		return []string{memoryDir, "/tmp"}
	}
	return []string{"/tmp"}
}

const (
	// memoryDir is in memory on Linux. In a container it has 64 MiB unless told otherwise.
	memoryDir = "/dev/shm"

	// memoryDirRoom is what a good many servers need that run at the same time: each begins with 60 MiB, and every database
	// in it takes another 8.
	memoryDirRoom = 2 << 30
)

func memoryDirHasRoom() bool {
	var stat syscall.Statfs_t
	err := syscall.Statfs(memoryDir, &stat)
	return err == nil && stat.Bavail*uint64(stat.Bsize) >= memoryDirRoom
}

func startPostgres(ctx context.Context, parent string) (string, func(), error) {
	box, err := newSandbox(parent)
	if err != nil {
		return "", nil, err
	}
	postgres := devstack.Postgres{Dir: box.dir, Disposable: true}
	process, err := postgres.Process()
	if err != nil {
		box.remove()
		return "", nil, err
	}
	stop, err := box.start(ctx, process)
	return postgres.DSN(), stop, err
}

// Temporal starts the development server, without the Web UI, and returns its host and port. Its namespace is "default". Call stop
// when done; calling it again does nothing.
//
// The first time on a machine it is built from source, which takes minutes.
func Temporal(ctx context.Context) (address string, stop func(), err error) {
	cli, err := devstack.TemporalCLI(ctx, os.Stderr)
	if err != nil {
		return "", nil, err
	}
	for range portAttempts {
		address, stop, err = startTemporal(ctx, cli)
		if !portTaken(err) {
			break
		}
	}
	return address, stop, err
}

// WithTemporal is for TestMain: it calls run while a development server runs, which TEMPORAL_ADDRESS names, and gives its exit code.
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

// portTaken reports whether somebody else was quicker to take the port, before the server was started or before it got that far.
func portTaken(err error) bool {
	return errors.Is(err, syscall.EADDRINUSE) || err != nil && strings.Contains(err.Error(), syscall.EADDRINUSE.Error())
}

func startTemporal(ctx context.Context, cli string) (string, func(), error) {
	port, err := devstack.FreePort()
	if err != nil {
		return "", nil, err
	}
	box, err := newSandbox(os.TempDir())
	if err != nil {
		return "", nil, err
	}
	temporal := devstack.Temporal{Dir: box.dir, CLI: cli, Port: port, Disposable: true}
	process, err := temporal.Process()
	if err != nil {
		box.remove()
		return "", nil, err
	}
	stop, err := box.start(ctx, process)
	return temporal.Address(), stop, err
}

// start starts the server in the sandbox. The function that it returns stops the server and removes the sandbox, which an error
// does, too.
func (b *sandbox) start(ctx context.Context, process devstack.Process) (stop func(), err error) {
	child, err := process.Start(ctx)
	if err != nil {
		b.remove()
		return nil, err
	}
	return sync.OnceFunc(func() {
		if err := child.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		b.remove()
	}), nil
}
