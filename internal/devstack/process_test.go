package devstack

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestProcessStart(t *testing.T) {
	t.Parallel()

	t.Run("returns when ready, and the output is in the log", func(t *testing.T) {
		t.Parallel()
		dir := newTestDir(t)
		child := start(t, shell(dir, "sleeper", "echo starting; echo a word >&2; "+sleeper))
		require.Equal(t, "starting\na word\nready\n", readFile(t, dir.Log("sleeper")))
		require.True(t, isRunning(child.PID()))
		require.Equal(t, child.PID(), readPID(dir.PIDFile("sleeper")))
		require.NoError(t, child.Stop())
		require.NoError(t, child.err)
		require.NoFileExists(t, dir.PIDFile("sleeper"))
	})

	t.Run("quotes the log of a process that exits early", func(t *testing.T) {
		t.Parallel()
		dir := newTestDir(t)
		process := shell(dir, "broken", "echo FATAL: no disk; exit 3")
		require.NoError(t, os.MkdirAll(filepath.Dir(dir.Log("broken")), 0o700))
		require.NoError(t, os.WriteFile(dir.Log("broken"), []byte("earlier\n"), 0o600))
		_, err := process.Start(testContext(t))
		require.EqualError(t, err, "broken stopped before it was ready (exit status 3); the end of "+dir.Log("broken")+":\n\tFATAL: no disk")
	})

	t.Run("stops a process that is not ready in time", func(t *testing.T) {
		t.Parallel()
		dir := newTestDir(t)
		process := shell(dir, "slow", "echo $$; exec sleep 60")
		process.ReadyTimeout = 100 * time.Millisecond
		_, err := process.Start(testContext(t))
		require.ErrorContains(t, err, "slow is not ready after 100ms")
		pid, err := strconv.Atoi(strings.TrimSpace(readFile(t, dir.Log("slow"))))
		require.NoError(t, err)
		require.False(t, isRunning(pid))
	})

	t.Run("stops the process when the context ends", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(testContext(t))
		process := shell(newTestDir(t), "slow", "exec sleep 60")
		process.Ready = func(context.Context) error { cancel(); return os.ErrNotExist }
		_, err := process.Start(ctx)
		require.ErrorIs(t, err, context.Canceled)
	})

	t.Run("says which program is missing", func(t *testing.T) {
		t.Parallel()
		dir := newTestDir(t)
		_, err := Process{Name: "nothing", Path: "/does/not/exist", LogFile: dir.Log("nothing")}.Start(testContext(t))
		require.ErrorContains(t, err, "nothing: ")
		require.ErrorContains(t, err, "/does/not/exist")
	})
}

func TestChildStop(t *testing.T) {
	t.Parallel()

	t.Run("goes through the signals", func(t *testing.T) {
		t.Parallel()
		dir := newTestDir(t)
		process := shell(dir, "stubborn", `trap 'echo got INT' INT; trap 'echo got QUIT; exit 0' QUIT; echo ready; while :; do sleep 60 & wait $!; done`)
		process.StopSignals = []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT}
		process.StopTimeout = 200 * time.Millisecond
		child := start(t, process)
		require.NoError(t, child.Stop())
		require.Equal(t, "ready\ngot INT\ngot QUIT\n", readFile(t, dir.Log("stubborn")))
	})

	t.Run("kills at last, the children as well", func(t *testing.T) {
		t.Parallel()
		dir := newTestDir(t)
		process := shell(dir, "deaf", `trap '' TERM; sleep 600 & echo $!; echo ready; while :; do sleep 60; done`)
		process.StopTimeout = 50 * time.Millisecond
		child := start(t, process)
		grandchild, err := strconv.Atoi(strings.Fields(readFile(t, dir.Log("deaf")))[0])
		require.NoError(t, err)
		require.EqualError(t, child.Stop(), "deaf did not stop within 50ms and was killed")
		eventually(t, func() bool { return !isRunning(grandchild) }, "its child is still there")
	})
}

func TestChildDiesWithParent(t *testing.T) {
	t.Parallel()
	report := t.TempDir() + "/child"
	argv := roleCommand(t, "parent", report)
	parent := exec.Command(argv[0], argv[1:]...)
	require.NoError(t, parent.Start())
	t.Cleanup(func() { _ = parent.Process.Kill() })

	eventually(t, func() bool { _, err := os.Stat(report); return err == nil }, "no child")
	pid, err := strconv.Atoi(readFile(t, report))
	require.NoError(t, err)
	require.True(t, isRunning(pid))

	require.NoError(t, parent.Process.Kill())
	_ = parent.Wait()
	eventually(t, func() bool { return !isRunning(pid) }, "the child has outlived its parent")
}
