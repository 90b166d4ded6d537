package devstack

import (
	"bytes"
	"context"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDetach(t *testing.T) {
	t.Parallel()

	t.Run("starts, tells, and stops", func(t *testing.T) {
		t.Parallel()
		dir := newTestDir(t)
		argv, env := roleCommand(t, "supervisor", dir.Root)
		var progress bytes.Buffer
		state, err := Detach(testContext(t), dir, argv, env, &progress)
		require.NoError(t, err)
		t.Cleanup(func() { _ = Stop(context.Background(), dir) })
		require.Equal(t, "http://127.0.0.1:3000", state.APIURL)
		require.Equal(t, "getting ready\n", progress.String())
		require.Equal(t, "getting ready\n", readFile(t, dir.Log("dev")))
		session, _, errno := syscall.Syscall(syscall.SYS_GETSID, uintptr(state.PID), 0, 0)
		require.Zero(t, errno)
		require.EqualValues(t, state.PID, session, "it does not lead a session")

		_, err = Detach(testContext(t), dir, argv, env, nil)
		running := (*RunningError)(nil)
		require.ErrorAs(t, err, &running)
		require.Equal(t, state.PID, running.PID)

		require.NoError(t, Stop(testContext(t), dir))
		require.ErrorIs(t, Stop(testContext(t), dir), ErrNotRunning)
		_, err = dir.ReadState()
		require.ErrorIs(t, err, ErrNotRunning)
	})

	t.Run("tells why it failed", func(t *testing.T) {
		t.Parallel()
		dir := newTestDir(t)
		argv, env := roleCommand(t, "supervisor", dir.Root, "port taken")
		_, err := Detach(testContext(t), dir, argv, env, nil)
		require.EqualError(t, err, "it stopped before it was ready (exit status 1); the end of "+dir.Log("dev")+":\n\ttold to fail: port taken")

		var progress bytes.Buffer
		_, err = Detach(testContext(t), dir, argv, env, &progress)
		require.EqualError(t, err, "it stopped before it was ready (exit status 1)")
		require.Equal(t, "told to fail: port taken\n", progress.String())
	})

	t.Run("stops what is not ready when the context ends", func(t *testing.T) {
		t.Parallel()
		dir := newTestDir(t)
		report := dir.Root + "/child"
		argv, env := roleCommand(t, "parent", report)
		ctx, cancel := context.WithCancel(testContext(t))
		go func() {
			defer cancel()
			awaitCondition(ctx, func() bool { _, err := os.Stat(report); return err == nil })
		}()
		_, err := Detach(ctx, dir, argv, env, nil)
		require.ErrorIs(t, err, context.Canceled)
	})
}

// TestSupervisorKilled has a supervisor killed: what it has written must not get in the way of the next one.
func TestSupervisorKilled(t *testing.T) {
	t.Parallel()
	dir := newTestDir(t)
	argv, env := roleCommand(t, "supervisor", dir.Root)
	first, err := Detach(testContext(t), dir, argv, env, nil)
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(first.PID, syscall.SIGKILL))
	eventually(t, func() bool { return startMark(first.PID) == "" }, "not killed")
	require.ErrorIs(t, Stop(testContext(t), dir), ErrNotRunning)

	second, err := Detach(testContext(t), dir, argv, env, nil)
	require.NoError(t, err)
	require.NotEqual(t, first.PID, second.PID)
	require.NoError(t, Stop(testContext(t), dir))
}
