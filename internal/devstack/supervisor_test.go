package devstack

import (
	"io"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func newTestSupervisor(t *testing.T) *Supervisor {
	t.Helper()
	supervisor := &Supervisor{Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	t.Cleanup(func() { _ = supervisor.Stop() })
	return supervisor
}

func TestSupervisor(t *testing.T) {
	t.Parallel()

	t.Run("restarts a process that was killed", func(t *testing.T) {
		t.Parallel()
		dir := newTestDir(t)
		supervisor := newTestSupervisor(t)
		require.NoError(t, supervisor.Start(testContext(t), shell(dir, "server", sleeper)))

		for range 2 {
			before := readPID(dir.PIDFile("server"))
			require.NoError(t, syscall.Kill(before, syscall.SIGKILL))
			eventually(t, func() bool {
				after := readPID(dir.PIDFile("server"))
				return isRunning(after) && after != before
			}, "not restarted")
		}
	})

	t.Run("restarts one that cannot start for a while", func(t *testing.T) {
		t.Parallel()
		dir := newTestDir(t)
		supervisor := newTestSupervisor(t)
		obstacle := dir.Root + "/obstacle"
		process := shell(dir, "server", "[ -e "+obstacle+" ] && { echo in the way; exit 1; }; "+sleeper)
		require.NoError(t, supervisor.Start(testContext(t), process))

		require.NoError(t, os.WriteFile(obstacle, nil, 0o600))
		require.NoError(t, os.Truncate(dir.Log("server"), 0))
		pid := readPID(dir.PIDFile("server"))
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
		eventually(t, func() bool { return strings.Count(readFile(t, dir.Log("server")), "in the way") >= 2 }, "not tried again")
		require.NoError(t, os.Remove(obstacle))
		eventually(t, func() bool { return strings.Contains(readFile(t, dir.Log("server")), "ready") }, "not restarted")
	})

	t.Run("stops in reverse order", func(t *testing.T) {
		t.Parallel()
		dir := newTestDir(t)
		supervisor := newTestSupervisor(t)
		order := dir.Root + "/order"
		for _, name := range []string{"first", "second", "third"} {
			script := `trap 'echo ` + name + ` >>` + order + `; exit 0' TERM; echo ready; while :; do sleep 60 & wait $!; done`
			require.NoError(t, supervisor.Start(testContext(t), shell(dir, name, script)))
		}
		require.NoError(t, supervisor.Stop())
		require.Equal(t, "third\nsecond\nfirst\n", readFile(t, order))

		err := supervisor.Start(testContext(t), shell(dir, "late", sleeper))
		require.EqualError(t, err, "late: the supervisor has stopped")
	})

	t.Run("stops while a process waits for its restart", func(t *testing.T) {
		t.Parallel()
		dir := newTestDir(t)
		supervisor := newTestSupervisor(t)
		process := shell(dir, "server", "[ -e "+dir.Root+"/obstacle ] && exit 1; "+sleeper)
		require.NoError(t, supervisor.Start(testContext(t), process))
		require.NoError(t, os.WriteFile(dir.Root+"/obstacle", nil, 0o600))
		pid := readPID(dir.PIDFile("server"))
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
		eventually(t, func() bool { return !isRunning(pid) }, "not killed")
		require.NoError(t, supervisor.Stop())
	})

	t.Run("does not repeat a first start", func(t *testing.T) {
		t.Parallel()
		dir := newTestDir(t)
		supervisor := newTestSupervisor(t)
		err := supervisor.Start(testContext(t), shell(dir, "broken", "echo no luck; exit 1"))
		require.ErrorContains(t, err, "no luck")
		require.NoError(t, supervisor.Stop())
	})
}
