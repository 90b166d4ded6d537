package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
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

	"github.com/photo-processor/photo-processor/internal/client"
	"github.com/photo-processor/photo-processor/internal/photo"
)

// TestEndToEnd follows the README with the built programs, then kills each process
// of the stack.
func TestEndToEnd(t *testing.T) {
	p := build(t)
	require.Equal(t, "photo-processor test\n", p.must(t, "version"))

	out, code := p.runDev(t, "status")
	require.Equal(t, 1, code)
	require.Contains(t, out, "not running")
	t.Cleanup(func() { p.stop() })
	require.Contains(t, p.mustDev(t, "start"), "photo-processor is ready")
	require.Contains(t, p.mustDev(t, "start"), "runs already")
	out, code = p.runDev(t, "start", "--cluster")
	require.Equal(t, 1, code)
	require.Contains(t, out, "the usual stack runs")
	p.must(t, "health", "api")

	p.env = append(p.env, "RENDER_CONCURRENCY=1")
	require.Contains(t, p.mustDev(t, "start"), "other values of RENDER_CONCURRENCY, and keeps them")
	p.env = p.env[:len(p.env)-1]
	require.NotContains(t, p.mustDev(t, "start"), "other values")

	require.Equal(t, "worker has stopped\n", p.mustDev(t, "stop", "worker"))
	require.Regexp(t, `worker +not running`, p.mustDev(t, "status"))
	require.Equal(t, "worker runs\n", p.mustDev(t, "start", "worker"))
	require.Regexp(t, `worker +process \d`, p.mustDev(t, "status"))

	p.mustDev(t, "db-schema")
	require.DirExists(t, filepath.Join(p.dir, "thumbnails"), "otherwise the worker is not ready")
	var pending []client.PhotoSummary
	status, body := get(t, p.api+"/photos/pending")
	require.Equal(t, http.StatusOK, status)
	require.NoError(t, json.Unmarshal([]byte(body), &pending))
	require.Len(t, pending, 6)

	temporal, err := temporalclient.Dial(temporalclient.Options{HostPort: p.variable(t, "TEMPORAL_ADDRESS")})
	require.NoError(t, err)
	defer temporal.Close()

	missing := uuid.New()
	t.Run("a mixed batch", func(t *testing.T) {
		inputs := []string{"process", "--watch", "nonsense", missing.String()}
		for _, ph := range pending {
			inputs = append(inputs, ph.UUID.String())
		}
		out, code := p.run(t, inputs...)
		require.Equal(t, 1, code, "not all is well")
		require.Contains(t, out, "nonsense rejected")
		require.Contains(t, out, missing.String()+" failed: there is no such photo")
		require.Equal(t, 5, strings.Count(out, " completed\n"))
		require.Contains(t, out, "failed: source_forbidden: the source answered 403 Forbidden")
	})
	t.Run("photo shows thumbnails and workflow", func(t *testing.T) {
		for _, before := range pending {
			ph := p.photo(t, before.UUID)
			out := p.must(t, "photo", ph.UUID.String())
			require.Contains(t, out, ph.WorkflowID)
			require.NotNil(t, ph.WorkflowURL)
			require.Contains(t, out, *ph.WorkflowURL)
			for _, url := range regexp.MustCompile(`http://\S+/thumbnails/\S+`).FindAllString(out, -1) {
				status, _ := get(t, url)
				require.Equal(t, http.StatusOK, status, url)
			}
			require.Equal(t, len(ph.Thumbnails), strings.Count(out, "/thumbnails/"))
			var shown client.Photo
			require.NoError(t, json.Unmarshal([]byte(p.must(t, "photo", ph.UUID.String(), "--output", "json")), &shown))
			require.Equal(t, ph, shown)
		}
		out, code := p.run(t, "photo", uuid.NewString())
		require.Equal(t, 1, code)
		require.Contains(t, out, "there is no photo ")
	})
	t.Run("other users can read no file", func(t *testing.T) {
		require.NoError(t, filepath.WalkDir(p.dir, func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // a temporary file
			}
			if err != nil || path == p.dir {
				return err // the directory itself may have other uses
			}
			if path == filepath.Join(p.dir, "postgres") || path == filepath.Join(p.dir, "sock") {
				return fs.SkipDir // PostgreSQL sees to these
			}
			info, err := entry.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			require.NoError(t, err)
			require.Zero(t, info.Mode().Perm()&0o077, "%s has mode %s", path, info.Mode())
			return nil
		}))
	})
	t.Run("photo --delete removes the files", func(t *testing.T) {
		added, err := client.New(p.api, "").Add(t.Context(), true, pending[0].URL)
		require.NoError(t, err)
		id := added[0].UUID
		files := func() []string {
			found, err := filepath.Glob(filepath.Join(p.dir, "thumbnails", id.String(), "*"))
			require.NoError(t, err)
			return found
		}
		require.Eventually(t, func() bool { return len(files()) > 0 }, time.Minute, 50*time.Millisecond)
		require.Equal(t, id.String()+" deleted\n", p.must(t, "photo", id.String(), "--delete"))
		out, code := p.run(t, "photo", id.String(), "--delete")
		require.Equal(t, 1, code)
		require.Contains(t, out, "there is no photo ")
		require.Eventually(t, func() bool { return len(files()) == 0 }, time.Minute, 50*time.Millisecond)
	})
	t.Run("the worker has no libvips in it, its renderers have", func(t *testing.T) {
		worker := p.pid(t, "worker")
		maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", worker))
		require.NoError(t, err)
		require.NotContains(t, string(maps), "libvips")
		renderers := children(worker)
		require.NotEmpty(t, renderers)
		for _, pid := range renderers {
			maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
			require.NoError(t, err)
			require.Contains(t, string(maps), "libvips")
		}
	})
	t.Run("health", func(t *testing.T) {
		other := *p
		workerAddr := strings.TrimSuffix(strings.TrimPrefix(p.workerMetrics, "http://"), "/metrics")
		other.env = append(p.env, "METRICS_ADDR="+workerAddr)
		other.must(t, "health", "worker")
		other.env = append(p.env, "METRICS_ADDR=")
		out, code := other.run(t, "health", "worker")
		require.Equal(t, 1, code)
		require.Contains(t, out, "METRICS_ADDR: ")
		other.env = append(p.env, "METRICS_ADDR=127.0.0.1:1", "HTTP_ADDR=127.0.0.1:1")
		for _, service := range []string{"api", "worker"} {
			_, code = other.run(t, "health", service)
			require.Equal(t, 1, code)
		}
	})
	t.Run("the worker's metrics are next to the API's", func(t *testing.T) {
		status, body := get(t, p.workerMetrics)
		require.Equal(t, http.StatusOK, status)
		require.Contains(t, body, `photo_processor_photos_finished_total{code="source_forbidden",status="failed"} 1`)
	})
	t.Run("a worker by hand", func(t *testing.T) {
		require.Equal(t, "127.0.0.1:"+p.setting(t, "DEV_SAMPLES_PORT"), p.variable(t, "SOURCE_ALLOW_ADDRESSES"), "it may fetch the sample photos too")
		require.Empty(t, p.variable(t, "METRICS_ADDR"), "the stack's API has the port")
	})
	t.Run("rows, files and histories agree", func(t *testing.T) {
		for _, before := range pending {
			ph := p.photo(t, before.UUID)
			want := enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
			if strings.HasSuffix(ph.URL, "forbidden.jpg") {
				want = enumspb.WORKFLOW_EXECUTION_STATUS_FAILED
				require.Equal(t, photo.Failed, ph.Status)
				require.Empty(t, ph.Thumbnails)
			} else {
				require.Equal(t, photo.Completed, ph.Status)
				p.requireThumbnails(t, ph)
			}
			requireHistory(t, temporal, ph.WorkflowID, want)
		}
		requireHistory(t, temporal, photo.WorkflowID(missing), enumspb.WORKFLOW_EXECUTION_STATUS_FAILED)
		require.Equal(t, 10, p.files(t, "thumbnails"))
		require.Zero(t, p.files(t, "sources"))
	})
	t.Run("a batch outlives the worker, PostgreSQL and Temporal", func(t *testing.T) {
		ids := p.addGenerated(t, 30)
		watch := make(chan string, 1)
		go func() {
			out, _ := p.run(t, append([]string{"process", "--watch"}, ids...)...)
			watch <- out
		}()
		for i, name := range []string{"worker", "postgres", "temporal"} {
			// In the middle of the batch.
			require.Eventually(t, func() bool { return p.count(t, photo.Completed) > 5+4*i }, time.Minute, 20*time.Millisecond)
			require.NoError(t, syscall.Kill(p.pid(t, name), syscall.SIGKILL))
			require.Eventually(t, func() bool {
				out, code := p.runDev(t, "status")
				return code == 0 && !strings.Contains(out, "not running")
			}, time.Minute, 100*time.Millisecond)
		}
		select {
		case out := <-watch:
			require.Equal(t, 30, strings.Count(out, " completed\n"), out)
		case <-time.After(3 * time.Minute):
			t.Fatal("not all photos have a final status")
		}
		for _, id := range ids {
			p.requireThumbnails(t, p.photo(t, uuid.MustParse(id)))
		}
		require.Equal(t, 10+60, p.files(t, "thumbnails"))
		require.Zero(t, p.files(t, "sources"))
	})
	t.Run("all is kept when it is stopped and started", func(t *testing.T) {
		before := p.photo(t, pending[0].UUID)
		require.Contains(t, p.mustDev(t, "stop"), "has stopped")
		require.Contains(t, p.mustDev(t, "stop"), "not running")
		// In a shell that has evaluated the output of "env".
		inShell := *p
		for _, line := range strings.Split(strings.TrimSpace(p.mustDev(t, "env")), "\n") {
			if variable, ok := strings.CutPrefix(line, "export "); ok { // not a note on stderr
				inShell.env = append(inShell.env, strings.ReplaceAll(variable, "'", ""))
			}
		}
		inShell.mustDev(t, "start")
		log, err := os.ReadFile(filepath.Join(p.dir, "logs", "dev.log"))
		require.NoError(t, err)
		require.NotContains(t, string(log), "Using the PostgreSQL", "it has not taken its own server for another one")
		require.Equal(t, before, p.photo(t, pending[0].UUID))
		requireHistory(t, temporal, photo.WorkflowID(missing), enumspb.WORKFLOW_EXECUTION_STATUS_FAILED)
	})
	t.Run("a port that is taken", func(t *testing.T) {
		other := *p
		other.env = append(p.env, "DATA_DIR="+p.dir+"2")
		out, code := other.runDev(t, "start")
		require.Equal(t, 1, code)
		require.Contains(t, out, "HTTP_ADDR")
		require.Contains(t, out, "taken")
	})
}
