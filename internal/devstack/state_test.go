package devstack

import (
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLock(t *testing.T) {
	t.Parallel()
	dir := newTestDir(t)
	lock, err := dir.Lock()
	require.NoError(t, err)

	_, err = dir.Lock()
	running := (*RunningError)(nil)
	require.ErrorAs(t, err, &running)
	require.Equal(t, os.Getpid(), running.PID)
	require.EqualError(t, running, "already running (pid "+strconv.Itoa(os.Getpid())+")")

	require.NoError(t, lock.Unlock())
	lock, err = dir.Lock()
	require.NoError(t, err)
	require.NoError(t, lock.Unlock())
}

func TestState(t *testing.T) {
	t.Parallel()
	dir := newTestDir(t)
	_, err := dir.ReadState()
	require.ErrorIs(t, err, ErrNotRunning)
	_, err = WaitReady(testContext(t), dir)
	require.ErrorIs(t, err, ErrNotRunning)

	lock, err := dir.Lock()
	require.NoError(t, err)
	_, err = dir.ReadState()
	require.ErrorIs(t, err, ErrNotRunning, "not ready yet")
	status, err := dir.Status()
	require.NoError(t, err)
	require.Equal(t, Status{PID: os.Getpid()}, status)

	require.NoError(t, dir.WriteState(State{TemporalAddress: "127.0.0.1:7233"}))
	state, err := dir.ReadState()
	require.NoError(t, err)
	require.Equal(t, os.Getpid(), state.PID)
	require.NotZero(t, state.StartedAt)
	require.Equal(t, "127.0.0.1:7233", state.TemporalAddress)
	waited, err := WaitReady(testContext(t), dir)
	require.NoError(t, err)
	require.Equal(t, state, waited)

	child := start(t, shell(dir, "server", sleeper))
	require.NoError(t, writePIDFile(dir.PIDFile("gone"), processID{pid: os.Getpid(), mark: "another start"}))
	status, err = dir.Status()
	require.NoError(t, err)
	require.Equal(t, Status{PID: os.Getpid(), State: &state, Processes: []ProcessStatus{{"gone", 0}, {"server", child.PID()}}}, status)

	require.NoError(t, lock.Unlock())
	_, err = dir.ReadState()
	require.ErrorIs(t, err, ErrNotRunning)
}

func TestStaleState(t *testing.T) {
	t.Parallel()
	dir := newTestDir(t)
	// What a supervisor leaves behind when it is killed, its number in use again since.
	require.NoError(t, writePIDFile(dir.PIDFile(supervisorName), processID{pid: os.Getpid(), mark: "another start"}))
	require.NoError(t, dir.WriteState(State{}))

	_, err := dir.ReadState()
	require.ErrorIs(t, err, ErrNotRunning)
	require.ErrorIs(t, Stop(testContext(t), dir), ErrNotRunning, "it would be us who are stopped")
	status, err := dir.Status()
	require.NoError(t, err)
	require.Equal(t, Status{}, status)

	lock, err := dir.Lock()
	require.NoError(t, err)
	_, err = dir.ReadState()
	require.ErrorIs(t, err, ErrNotRunning, "the state of the one before is not ours")
	require.NoError(t, lock.Unlock())
}
