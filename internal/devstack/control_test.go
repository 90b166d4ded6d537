package devstack

import (
	"context"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// lock takes the directory's lock until the end of the test.
func lock(t *testing.T, dir Dir, supervisor *Supervisor) *Control {
	t.Helper()
	control, err := dir.Lock(testContext(t), supervisor, func() {})
	require.NoError(t, err)
	t.Cleanup(func() { _ = control.Close() })
	return control
}

func TestLock(t *testing.T) {
	t.Parallel()
	dir := newTestDir(t)
	control := lock(t, dir, newTestSupervisor(t))

	_, err := dir.Lock(testContext(t), newTestSupervisor(t), func() {})
	running := (*RunningError)(nil)
	require.ErrorAs(t, err, &running)
	require.EqualError(t, running, "already running (process "+strconv.Itoa(os.Getpid())+")")

	require.NoError(t, control.Close())
	lock(t, dir, newTestSupervisor(t))
}

func TestStatus(t *testing.T) {
	t.Parallel()
	dir := newTestDir(t)
	status := func() Status {
		status, err := dir.Status(testContext(t))
		require.NoError(t, err)
		return status
	}
	require.Equal(t, Status{}, status())
	_, err := WaitReady(testContext(t), dir)
	require.ErrorIs(t, err, ErrNotRunning)
	require.ErrorIs(t, dir.StopProcess(testContext(t), "server"), ErrNotRunning)

	supervisor := newTestSupervisor(t)
	control := lock(t, dir, supervisor)
	require.Equal(t, Status{PID: os.Getpid(), Processes: []ProcessStatus{}}, status(), "not ready yet")
	require.NoError(t, supervisor.Start(testContext(t), shell(dir, "server", sleeper)))
	state := State{TemporalAddress: "127.0.0.1:7233"}
	control.SetReady(state)
	ready, err := WaitReady(testContext(t), dir)
	require.NoError(t, err)
	require.Equal(t, state, ready)
	require.Equal(t, Status{PID: os.Getpid(), State: &state, Processes: []ProcessStatus{{"server", readPID(dir.PIDFile("server"))}}}, status())

	control.SetStopping()
	require.Nil(t, status().State)
	require.True(t, status().Stopping)
	_, err = WaitReady(testContext(t), dir)
	require.ErrorIs(t, err, ErrNotRunning)

	require.NoError(t, control.Close())
	require.Equal(t, Status{}, status())
}

// TestSingleProcesses stops and starts single processes of a running stack.
func TestSingleProcesses(t *testing.T) {
	t.Parallel()
	dir := newTestDir(t)
	require.NoError(t, os.WriteFile(dir.control(), nil, 0o600), "left by a supervisor that was killed")
	supervisor := newTestSupervisor(t)
	lock(t, dir, supervisor)
	for _, name := range []string{"first", "second"} {
		process := shell(dir, name, "[ -e "+dir.Root+"/obstacle ] && { echo in the way; exit 1; }; "+sleeper)
		require.NoError(t, supervisor.Start(testContext(t), process))
	}
	pids := func() (first, second int) {
		status, err := dir.Status(testContext(t))
		require.NoError(t, err)
		require.Len(t, status.Processes, 2)
		return status.Processes[0].PID, status.Processes[1].PID
	}

	first, second := pids()
	for range 2 { // stopping a stopped one is no error
		require.NoError(t, dir.StopProcess(testContext(t), "first"))
		require.False(t, isRunning(first))
		stopped, other := pids()
		require.Zero(t, stopped)
		require.Equal(t, second, other)
	}
	require.ErrorContains(t, dir.StopProcess(testContext(t), "third"), `there is no process "third"; there are ["first" "second"]`)
	require.ErrorContains(t, dir.StartProcess(testContext(t), "third"), `there is no process "third"`)

	require.NoError(t, os.WriteFile(dir.Root+"/obstacle", nil, 0o600))
	require.NoError(t, os.Truncate(dir.Log("first"), 0)) // it has "ready"
	require.ErrorContains(t, dir.StartProcess(testContext(t), "first"), "in the way")
	require.NoError(t, os.Remove(dir.Root+"/obstacle"))
	for range 2 {
		require.NoError(t, dir.StartProcess(testContext(t), "first"))
	}
	started, other := pids()
	require.True(t, isRunning(started))
	require.Equal(t, second, other)

	require.NoError(t, supervisor.Stop())
	require.False(t, isRunning(started))
	require.False(t, isRunning(second))
	require.ErrorContains(t, dir.StartProcess(testContext(t), "first"), "the supervisor has stopped")
	require.NoFileExists(t, dir.PIDFile("first"))
}

// TestStaleSocket has what a killed supervisor leaves behind.
func TestStaleSocket(t *testing.T) {
	t.Parallel()
	dir := newTestDir(t)
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir.control()})
	require.NoError(t, err)
	listener.SetUnlinkOnClose(false)
	require.NoError(t, listener.Close())
	require.FileExists(t, dir.control())

	status, err := dir.Status(testContext(t))
	require.NoError(t, err)
	require.Equal(t, Status{}, status)
	require.ErrorIs(t, Stop(testContext(t), dir), ErrNotRunning)
	lock(t, dir, newTestSupervisor(t))
}

func TestStart(t *testing.T) {
	t.Parallel()

	t.Run("until it is ready, and Stop", func(t *testing.T) {
		t.Parallel()
		dir := newTestDir(t)
		argv := roleCommand(t, "supervisor", dir.Root)
		state, err := Start(testContext(t), dir, argv)
		require.NoError(t, err)
		t.Cleanup(func() { _ = Stop(context.Background(), dir) })
		require.Equal(t, "http://127.0.0.1:3000", state.APIURL)
		require.Equal(t, "getting ready\n", readFile(t, dir.Log("dev")))
		pid := supervisorPID(t, dir)
		session, _, errno := syscall.Syscall(syscall.SYS_GETSID, uintptr(pid), 0, 0)
		require.Zero(t, errno)
		require.EqualValues(t, pid, session, "it does not lead a session")

		_, err = Start(testContext(t), dir, argv)
		running := (*RunningError)(nil)
		require.ErrorAs(t, err, &running)
		require.Equal(t, pid, running.PID)

		require.NoError(t, Stop(testContext(t), dir))
		require.ErrorIs(t, Stop(testContext(t), dir), ErrNotRunning)
	})

	t.Run("quotes the log of a failure", func(t *testing.T) {
		t.Parallel()
		dir := newTestDir(t)
		_, err := Start(testContext(t), dir, roleCommand(t, "supervisor", dir.Root, "port taken"))
		require.EqualError(t, err, "it stopped before it was ready (exit status 1); the end of "+dir.Log("dev")+":\n\ttold to fail: port taken")
	})

	t.Run("stops what is not ready when the context ends", func(t *testing.T) {
		t.Parallel()
		dir := newTestDir(t)
		report := dir.Root + "/child"
		ctx, cancel := context.WithCancel(testContext(t))
		go func() {
			defer cancel()
			awaitCondition(ctx, func() bool { _, err := os.Stat(report); return err == nil })
		}()
		_, err := Start(ctx, dir, roleCommand(t, "parent", report))
		require.ErrorIs(t, err, context.Canceled)
	})

	t.Run("after a supervisor was killed", func(t *testing.T) {
		t.Parallel()
		dir := newTestDir(t)
		argv := roleCommand(t, "supervisor", dir.Root)
		_, err := Start(testContext(t), dir, argv)
		require.NoError(t, err)
		first := supervisorPID(t, dir)
		require.NoError(t, syscall.Kill(first, syscall.SIGKILL))
		eventually(t, func() bool { return !isRunning(first) }, "not killed")

		_, err = Start(testContext(t), dir, argv)
		require.NoError(t, err)
		require.NotEqual(t, first, supervisorPID(t, dir))
		require.NoError(t, Stop(testContext(t), dir))
	})
}

// TestStopTwice stops a stack that takes long to stop twice, and starts it again
// meanwhile.
func TestStopTwice(t *testing.T) {
	t.Parallel()
	dir := newTestDir(t)
	argv := roleCommand(t, "supervisor", dir.Root)
	obstacle := dir.Root + "/obstacle"
	require.NoError(t, os.WriteFile(obstacle, nil, 0o600))
	_, err := Start(testContext(t), dir, argv)
	require.NoError(t, err)
	first := supervisorPID(t, dir)

	for range 2 {
		_, err := dir.requestControl(testContext(t), http.MethodPost, "/stop")
		require.NoError(t, err)
		eventually(t, func() bool {
			status, err := dir.Status(testContext(t))
			return err == nil && status.Stopping
		}, "it is not stopping")
	}
	var group errgroup.Group
	group.Go(func() error {
		_, err := Start(testContext(t), dir, argv)
		return err
	})
	require.True(t, isRunning(first))
	require.NoError(t, os.Remove(obstacle))
	require.NoError(t, group.Wait())
	require.Equal(t, "getting ready\nstopped\n", readFile(t, dir.Log("dev")+".1"))
	require.NotEqual(t, first, supervisorPID(t, dir))
	require.NoError(t, Stop(testContext(t), dir))
}

func supervisorPID(t *testing.T, dir Dir) int {
	t.Helper()
	status, err := dir.Status(testContext(t))
	require.NoError(t, err)
	require.NotZero(t, status.PID)
	return status.PID
}
