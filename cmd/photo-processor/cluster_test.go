package main_test

import (
	"flag"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	temporalclient "go.temporal.io/sdk/client"

	"github.com/photo-processor/photo-processor/internal/photo"
)

var (
	clusterFlag = flag.Bool("cluster", false, "run TestCluster, which needs Temporal's production server; see make test-cluster")
	photosFlag  = flag.Int("photos", 500, "how many photos TestCluster processes")
)

// TestCluster kills one of three workers, Temporal's server and PostgreSQL of
// `make cluster`, one after the other, while a batch is processed. It runs only with
// -cluster, because Temporal's server takes minutes to build.
func TestCluster(t *testing.T) {
	if !*clusterFlag {
		t.Skip("only with -cluster; see make test-cluster")
	}
	p := build(t)
	t.Cleanup(func() { p.stop() })
	require.Contains(t, p.mustDev(t, "start", "--cluster"), "photo-processor is ready")
	p.dir = filepath.Join(p.dir, "cluster")

	t.Run("not at the same time as the usual stack", func(t *testing.T) {
		out, code := p.runDev(t, "start")
		require.Equal(t, 1, code)
		require.Contains(t, out, "the cluster runs")
		require.Contains(t, p.mustDev(t, "start", "--cluster"), "runs already")
	})
	t.Run("Temporal is the production server, with its UI and metrics", func(t *testing.T) {
		status := p.mustDev(t, "status")
		ui := regexp.MustCompile(`Web UI +(\S+)`).FindStringSubmatch(status)
		require.NotNil(t, ui)
		code, body := get(t, ui[1]+"/api/v1/namespaces")
		require.Equal(t, http.StatusOK, code)
		require.Contains(t, body, `"workflowExecutionRetentionTtl": "2592000s"`)
		code, body = get(t, "http://127.0.0.1:"+p.setting(t, "DEV_TEMPORAL_METRICS_PORT")+"/metrics")
		require.Equal(t, http.StatusOK, code)
		require.Contains(t, body, `service_name="history"`)
	})

	p.mustDev(t, "db-schema")
	ids := p.addGenerated(t, *photosFlag)
	watch := make(chan string, 1)
	started := time.Now()
	go func() {
		out, _ := p.run(t, append([]string{"process", "--watch"}, ids...)...)
		watch <- out
	}()
	for i, name := range []string{"worker-2", "temporal", "postgres"} {
		// In the middle of the batch.
		require.Eventually(t, func() bool { return p.count(t, photo.Completed) > *photosFlag*(i+1)/5 }, 5*time.Minute, 20*time.Millisecond)
		require.NoError(t, syscall.Kill(p.pid(t, name), syscall.SIGKILL))
		require.Eventually(t, func() bool {
			out, code := p.runDev(t, "status")
			return code == 0 && !strings.Contains(out, "not running")
		}, time.Minute, 100*time.Millisecond)
	}
	var out string
	select {
	case out = <-watch:
	case <-time.After(20 * time.Minute):
		t.Fatal("not all photos have a final status")
	}
	t.Logf("%d photos in %s, restarts included", *photosFlag, time.Since(started).Round(time.Second))
	require.Equal(t, *photosFlag, strings.Count(out, " completed\n"))

	temporal, err := temporalclient.Dial(temporalclient.Options{HostPort: p.variable(t, "TEMPORAL_ADDRESS")})
	require.NoError(t, err)
	defer temporal.Close()
	for _, id := range ids {
		ph := p.photo(t, uuid.MustParse(id))
		p.requireThumbnails(t, ph)
		requireHistory(t, temporal, ph.WorkflowID, enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED)
	}
	require.Equal(t, 2**photosFlag, p.files(t, "thumbnails"), "each has exactly its two thumbnails")
	require.Zero(t, p.files(t, "sources"))

	t.Run("all is kept when it is stopped and started", func(t *testing.T) {
		require.Contains(t, p.mustDev(t, "stop"), "has stopped")
		_, code := p.runDev(t, "status")
		require.Equal(t, 1, code)
		p.mustDev(t, "start", "--cluster")
		last := p.photo(t, uuid.MustParse(ids[len(ids)-1]))
		p.requireThumbnails(t, last)
		requireHistory(t, temporal, last.WorkflowID, enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED)
	})
}

// setting returns a variable of the environment that the program runs with.
func (p *program) setting(t *testing.T, name string) string {
	t.Helper()
	for i := len(p.env) - 1; i >= 0; i-- {
		if value, found := strings.CutPrefix(p.env[i], name+"="); found {
			return value
		}
	}
	t.Fatalf("%s is not set", name)
	return ""
}
