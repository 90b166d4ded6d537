package devstack

import (
	"context"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
)

// TestStack has the whole life of a stack: started in the background, hurt, and
// stopped.
func TestStack(t *testing.T) {
	t.Parallel()
	testCLI(t)
	dir := newTestDir(t)
	port, err := FreePort()
	require.NoError(t, err)
	argv := roleCommand(t, "stack", dir.Root, strconv.Itoa(port))
	t.Cleanup(func() { _ = Stop(context.Background(), dir) })

	processes := func(t *testing.T) (pids []int) {
		t.Helper()
		for _, name := range []string{"postgres", "temporal"} {
			pid := readPID(dir.PIDFile(name))
			require.True(t, isRunning(pid), name)
			pids = append(pids, pid)
		}
		return pids
	}
	use := func(state State) error {
		c, err := client.DialContext(testContext(t), client.Options{HostPort: state.TemporalAddress})
		if err != nil {
			return err
		}
		c.Close()
		return Postgres{Dir: dir}.exec(testContext(t), postgresName, "CREATE TABLE IF NOT EXISTS kept ()")
	}

	state, err := Start(testContext(t), dir, argv)
	require.NoError(t, err)
	require.NoError(t, use(state))
	status, err := dir.Status(testContext(t))
	require.NoError(t, err)
	require.Len(t, status.Processes, 2)

	// Its servers are killed: it starts them again.
	before := processes(t)
	for _, server := range before {
		require.NoError(t, syscall.Kill(server, syscall.SIGKILL))
	}
	eventually(t, func() bool {
		status, err := dir.Status(t.Context())
		return err == nil && len(status.Processes) == 2 &&
			status.Processes[0].PID != 0 && status.Processes[0].PID != before[0] &&
			status.Processes[1].PID != 0 && status.Processes[1].PID != before[1] && use(state) == nil
	}, "the servers are not back")

	// It is killed itself: the next one does not wait for a tidy place.
	before = processes(t)
	require.NoError(t, syscall.Kill(status.PID, syscall.SIGKILL))
	eventually(t, func() bool { return !isRunning(status.PID) }, "not killed")
	state, err = Start(testContext(t), dir, argv)
	require.NoError(t, err)
	require.NoError(t, use(state))
	after := processes(t)
	for i := range before {
		eventually(t, func() bool { return !isRunning(before[i]) }, "it has outlived its supervisor")
		require.NotEqual(t, before[i], after[i])
	}

	require.NoError(t, Stop(testContext(t), dir))
	for _, server := range after {
		require.False(t, isRunning(server))
	}
	status, err = dir.Status(testContext(t))
	require.NoError(t, err)
	require.Equal(t, Status{}, status)
}
