package devstack

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
)

// testCLI returns the path of Temporal's CLI.
func testCLI(t *testing.T) string {
	t.Helper()
	cli, err := TemporalCLI(t.Context(), os.Stderr)
	require.NoError(t, err)
	return cli
}

func newTestTemporal(t *testing.T) Temporal {
	t.Helper()
	port, err := FreePort()
	require.NoError(t, err)
	return Temporal{Dir: newTestDir(t), CLI: testCLI(t), Port: port}
}

func startTemporal(t *testing.T, temporal Temporal) *Child {
	t.Helper()
	process, err := temporal.Process()
	require.NoError(t, err)
	return start(t, process)
}

func dialTemporal(t *testing.T, temporal Temporal) client.Client {
	t.Helper()
	c, err := client.DialContext(testContext(t), client.Options{HostPort: temporal.Address()})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// TestTemporalKeepsWorkflows stops and kills a durable server.
func TestTemporalKeepsWorkflows(t *testing.T) {
	t.Parallel()
	temporal := newTestTemporal(t)

	// A server that was killed before it had created its tables.
	require.NoError(t, os.WriteFile(filepath.Join(temporal.Dir.Root, temporalDB), nil, 0o600))

	child := startTemporal(t, temporal)
	run, err := dialTemporal(t, temporal).ExecuteWorkflow(testContext(t),
		client.StartWorkflowOptions{ID: "kept", TaskQueue: "nobody polls it"}, "SomeWorkflow")
	require.NoError(t, err)

	whole := t
	restart := func(t *testing.T) {
		t.Helper()
		process, err := temporal.Process()
		require.NoError(t, err)
		child = startUntil(whole, t, process)
		described, err := dialTemporal(t, temporal).DescribeWorkflowExecution(testContext(t), "kept", run.GetRunID())
		require.NoError(t, err)
		require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, described.GetWorkflowExecutionInfo().GetStatus())
	}
	t.Run("when killed", func(t *testing.T) {
		kill(t, child)
		restart(t)
	})
	t.Run("when stopped", func(t *testing.T) {
		require.NoError(t, child.Stop())
		restart(t)
	})
	t.Run("for a month", func(t *testing.T) {
		c := dialTemporal(t, temporal)
		described, err := c.WorkflowService().DescribeNamespace(testContext(t),
			&workflowservice.DescribeNamespaceRequest{Namespace: temporalNamespace})
		require.NoError(t, err)
		require.Equal(t, 30*24*time.Hour, described.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration())
	})
	t.Run("and has nothing to say about its configuration", func(t *testing.T) {
		require.NotContains(t, strings.ToLower(readFile(t, temporal.Dir.Log("temporal"))), "dynamic config")
	})
}

func TestTemporalUI(t *testing.T) {
	t.Parallel()
	temporal := newTestTemporal(t)
	temporal.Disposable = true
	var err error
	temporal.UIPort, err = FreePort()
	require.NoError(t, err)
	startTemporal(t, temporal)

	request, err := http.NewRequestWithContext(testContext(t), http.MethodGet, temporal.UIURL(), nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Contains(t, response.Header.Get("Content-Type"), "text/html")
}

func TestTemporalPortTaken(t *testing.T) {
	t.Parallel()
	temporal := Temporal{Dir: newTestDir(t), CLI: "/never/run"}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	taken := listener.Addr().(*net.TCPAddr).Port
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)

	temporal.Port = taken
	process, err := temporal.Process()
	require.NoError(t, err)
	_, err = process.Start(testContext(t))
	require.EqualError(t, err, "temporal: port "+port+" (Temporal) is taken by another process; set DEV_TEMPORAL_PORT to use another one: address already in use")

	temporal.Port, err = FreePort()
	require.NoError(t, err)
	temporal.UIPort = taken
	process, err = temporal.Process()
	require.NoError(t, err)
	_, err = process.Start(testContext(t))
	require.EqualError(t, err, "temporal: port "+port+" (Temporal's Web UI) is taken by another process; set DEV_TEMPORAL_UI_PORT to use another one: address already in use")
}

func TestCheckPort(t *testing.T) {
	t.Parallel()
	err := CheckPort("no address", "the API", "HTTP_ADDR")
	require.ErrorContains(t, err, "cannot listen on no address (the API), which HTTP_ADDR sets: ")

	port, err := FreePort()
	require.NoError(t, err)
	other, err := FreePort()
	require.NoError(t, err)
	require.NotEqual(t, port, other)
	// The kernel may assign the port to a connection of another package's
	// tests.
	for range 5 {
		if err = CheckPort(Temporal{Port: port}.Address(), "the API", "HTTP_ADDR"); err == nil {
			break
		}
		port, err = FreePort()
		require.NoError(t, err)
	}
	require.NoError(t, CheckPort(Temporal{Port: port}.Address(), "the API", "HTTP_ADDR"))
}
