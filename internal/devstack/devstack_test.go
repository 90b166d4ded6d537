package devstack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// patience bounds every wait. Only a failing test reaches it.
const patience = time.Minute

// roleEnv makes the test binary a process with one of roles instead of running
// the tests.
const roleEnv = "DEVSTACK_TEST_ROLE"

var roles = map[string]func(args []string) error{
	"parent":     playParent,
	"supervisor": playSupervisor,
	"stack":      playStack,
}

func TestMain(m *testing.M) {
	if role, ok := roles[os.Getenv(roleEnv)]; ok {
		if err := role(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// playParent starts a shell, writes its PID to the file args[0], and waits to
// be killed.
func playParent(args []string) error {
	process := Process{
		Name: "sleeper", Path: "/bin/sh", Args: []string{"-c", "while :; do sleep 60; done"},
		LogFile: args[0] + ".log",
	}
	child, err := process.Start(context.Background())
	if err != nil {
		return err
	}
	if err := os.WriteFile(args[0]+".unfinished", fmt.Append(nil, child.PID()), 0o600); err != nil {
		return err
	}
	if err := os.Rename(args[0]+".unfinished", args[0]); err != nil {
		return err
	}
	select {}
}

// playSupervisor runs a stack without processes in the data directory args[0],
// until it is stopped. A file "obstacle" there keeps it from stopping.
func playSupervisor(args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("told to fail: %s", args[1])
	}
	return runStack(args[0], func(context.Context, Dir, *Supervisor) (State, error) {
		fmt.Println("getting ready")
		return State{APIURL: "http://127.0.0.1:3000"}, nil
	})
}

// playStack runs the servers in the data directory args[0], Temporal on port
// args[1], until SIGTERM.
func playStack(args []string) error {
	port, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	return runStack(args[0], func(ctx context.Context, dir Dir, supervisor *Supervisor) (State, error) {
		cli, err := TemporalCLI(ctx, os.Stderr)
		if err != nil {
			return State{}, err
		}
		postgres := Postgres{Dir: dir}
		temporal := Temporal{Dir: dir, CLI: cli, Port: port}
		for _, describe := range []func() (Process, error){postgres.Process, temporal.Process} {
			process, err := describe()
			if err == nil {
				err = supervisor.Start(ctx, process)
			}
			if err != nil {
				return State{}, err
			}
		}
		return State{DatabaseURL: postgres.DSN(), TemporalAddress: temporal.Address()}, nil
	})
}

func runStack(root string, start func(context.Context, Dir, *Supervisor) (State, error)) (err error) {
	dir, err := NewDir(root)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal kills
	supervisor := &Supervisor{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	control, err := dir.Lock(ctx, supervisor, stop)
	if err != nil {
		return err
	}
	defer func() {
		control.SetStopping()
		awaitCondition(context.Background(), func() bool { _, err := os.Stat(dir.Root + "/obstacle"); return err != nil })
		err = errors.Join(err, supervisor.Stop(), control.Close())
		fmt.Println("stopped")
	}()
	state, err := start(ctx, dir, supervisor)
	if err != nil {
		return err
	}
	control.SetReady(state)
	<-ctx.Done()
	return nil
}

// roleCommand is the command line of a role.
func roleCommand(t *testing.T, role string, args ...string) []string {
	t.Helper()
	binary, err := os.Executable()
	require.NoError(t, err)
	return append([]string{"/usr/bin/env", roleEnv + "=" + role, binary}, args...)
}

// newTestDir returns an empty data directory that PostgreSQL's user can enter,
// other than t.TempDir.
func newTestDir(t *testing.T) Dir {
	t.Helper()
	root, err := os.MkdirTemp("", "devstack-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(root)) })
	dir, err := NewDir(filepath.Join(root, "data"))
	require.NoError(t, err)
	require.NoError(t, os.Chmod(root, 0o711))
	require.NoError(t, dir.Create())
	return dir
}

// start starts the process, and stops it at the end of the test.
func start(t *testing.T, process Process) *Child {
	t.Helper()
	return startUntil(t, t, process)
}

// startUntil starts the process for a subtest, and stops it at the end of its
// parent.
func startUntil(end, t *testing.T, process Process) *Child {
	t.Helper()
	child, err := process.Start(testContext(t))
	require.NoError(t, err)
	end.Cleanup(func() { _ = child.Stop() })
	return child
}

// testContext ends after patience.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// kill kills the child and waits until it is gone.
func kill(t *testing.T, child *Child) {
	t.Helper()
	require.NoError(t, syscall.Kill(child.PID(), syscall.SIGKILL))
	await(t, child.Done())
}

func await(t *testing.T, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		require.FailNow(t, "timed out")
	}
}

// eventually waits until the condition holds.
func eventually(t *testing.T, condition func() bool, message string) {
	t.Helper()
	require.Eventually(t, condition, patience, 5*time.Millisecond, message)
}

// awaitCondition waits until the condition holds or ctx ends. Other goroutines
// than the test's may call it.
func awaitCondition(ctx context.Context, condition func() bool) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !condition() && ctx.Err() == nil {
		<-tick.C
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

// shell is a process that runs the script. It is ready when its log has
// "ready".
func shell(dir Dir, name, script string) Process {
	log := dir.Log(name)
	return Process{
		Name: name, Path: "/bin/sh", Args: []string{"-c", script, name},
		LogFile: log, PIDFile: dir.PIDFile(name),
		Ready: func(context.Context) error {
			if text, err := os.ReadFile(log); err != nil || !strings.Contains(string(text), "ready") {
				return fmt.Errorf("%q is not ready: %w", text, err)
			}
			return nil
		},
		StopTimeout: patience,
	}
}

// sleeper runs until SIGTERM.
const sleeper = `trap 'exit 0' TERM; echo ready; while :; do sleep 60 & wait $!; done`

// isRunning reports whether the process exists and has not exited. See
// proc_pid_stat(5): the state follows the name, which is in parentheses.
func isRunning(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil || pid <= 0 {
		return false
	}
	state := stat[bytes.LastIndexByte(stat, ')')+2]
	return state != 'Z' && state != 'X'
}

// readPID reads the number in a PID file; 0 if there is none.
func readPID(path string) int {
	text, _ := os.ReadFile(path)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return pid
}
