package devstack

import (
	"context"
	"os"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLock(t *testing.T) {
	t.Parallel()
	dir := newTestDir(t)
	unlock, err := dir.Lock()
	require.NoError(t, err)

	_, err = dir.Lock()
	running := (*RunningError)(nil)
	require.ErrorAs(t, err, &running)
	require.EqualError(t, running, "already running (process "+strconv.Itoa(os.Getpid())+")")

	require.NoError(t, unlock())
	unlock, err = dir.Lock()
	require.NoError(t, err)
	require.NoError(t, unlock())
}

func TestState(t *testing.T) {
	t.Parallel()
	dir := newTestDir(t)
	_, err := dir.ReadState()
	require.ErrorIs(t, err, ErrNotRunning)
	require.ErrorIs(t, WaitReady(testContext(t), dir), ErrNotRunning)

	unlock, err := dir.Lock()
	require.NoError(t, err)
	_, err = dir.ReadState()
	require.ErrorIs(t, err, ErrNotRunning, "not ready yet")
	status, err := dir.Status(testContext(t))
	require.NoError(t, err)
	require.Equal(t, Status{PID: os.Getpid()}, status)

	require.NoError(t, dir.WriteState(State{TemporalAddress: "127.0.0.1:7233"}))
	state, err := dir.ReadState()
	require.NoError(t, err)
	require.Equal(t, State{PID: os.Getpid(), TemporalAddress: "127.0.0.1:7233"}, state)
	require.NoError(t, WaitReady(testContext(t), dir))

	supervisor := newTestSupervisor(t)
	control, err := dir.ServeControl(supervisor)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, control.Close()) })
	require.NoError(t, supervisor.Start(testContext(t), shell(dir, "server", sleeper)))
	status, err = dir.Status(testContext(t))
	require.NoError(t, err)
	require.Equal(t, Status{PID: os.Getpid(), State: &state, Processes: []ProcessStatus{{"server", readPID(dir.PIDFile("server"))}}}, status)

	require.NoError(t, unlock())
	_, err = dir.ReadState()
	require.ErrorIs(t, err, ErrNotRunning)
}

// TestSingleProcesses stops and starts single processes of a running stack.
func TestSingleProcesses(t *testing.T) {
	t.Parallel()
	dir := newTestDir(t)
	unlock, err := dir.Lock()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unlock()) })
	require.NoError(t, os.WriteFile(dir.control(), nil, 0o600), "left by a supervisor that was killed")
	supervisor := newTestSupervisor(t)
	control, err := dir.ServeControl(supervisor)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, control.Close()) })
	require.NoError(t, dir.WriteState(State{}))
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

// TestStaleState has what a killed supervisor leaves behind, whose PID another
// process has now.
func TestStaleState(t *testing.T) {
	t.Parallel()
	dir := newTestDir(t)
	require.NoError(t, os.WriteFile(dir.lock(), []byte(strconv.Itoa(os.Getpid())), 0o600))
	require.NoError(t, dir.WriteState(State{}))

	_, err := dir.ReadState()
	require.ErrorIs(t, err, ErrNotRunning)
	require.ErrorIs(t, Stop(testContext(t), dir), ErrNotRunning, "it would stop this process")
	status, err := dir.Status(testContext(t))
	require.NoError(t, err)
	require.Equal(t, Status{}, status)

	unlock, err := dir.Lock()
	require.NoError(t, err)
	_, err = dir.ReadState()
	require.ErrorIs(t, err, ErrNotRunning, "the state is of an earlier supervisor")
	require.NoError(t, unlock())
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
		session, _, errno := syscall.Syscall(syscall.SYS_GETSID, uintptr(state.PID), 0, 0)
		require.Zero(t, errno)
		require.EqualValues(t, state.PID, session, "it does not lead a session")

		_, err = Start(testContext(t), dir, argv)
		running := (*RunningError)(nil)
		require.ErrorAs(t, err, &running)
		require.Equal(t, state.PID, running.PID)

		require.NoError(t, Stop(testContext(t), dir))
		require.ErrorIs(t, Stop(testContext(t), dir), ErrNotRunning)
		_, err = dir.ReadState()
		require.ErrorIs(t, err, ErrNotRunning)
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
		first, err := Start(testContext(t), dir, argv)
		require.NoError(t, err)
		require.NoError(t, syscall.Kill(first.PID, syscall.SIGKILL))
		eventually(t, func() bool { return !isRunning(first.PID) }, "not killed")

		second, err := Start(testContext(t), dir, argv)
		require.NoError(t, err)
		require.NotEqual(t, first.PID, second.PID)
		require.NoError(t, Stop(testContext(t), dir))
	})
}
