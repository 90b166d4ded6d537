package main_test

import (
	"bytes"
	"fmt"
	"image"
	"image/jpeg"
	"net/http"
	"net/http/httptest"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	temporalclient "go.temporal.io/sdk/client"

	"github.com/photo-processor/photo-processor/internal/client"
	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
	"github.com/photo-processor/photo-processor/internal/photo"
)

// serveQuickly serves one picture at every path. Unlike samples.Handler it draws
// none during the test, which would take most of the CPU.
func serveQuickly(t *testing.T) (url string) {
	t.Helper()
	var picture bytes.Buffer
	require.NoError(t, jpeg.Encode(&picture, image.NewGray(image.Rect(0, 0, 1200, 900)), nil))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(picture.Bytes()) }))
	t.Cleanup(server.Close)
	return server.URL
}

// TestNormalStop sends SIGTERM to an API and a worker under load: quick photos,
// fetches that are still open when SHUTDOWN_TIMEOUT ends, and requests. Both
// exit with 0 and log no error.
func TestNormalStop(t *testing.T) {
	p := build(t)
	database, stopDatabase, err := devstacktest.Postgres(t.Context())
	require.NoError(t, err)
	t.Cleanup(stopDatabase)
	temporal, stopTemporal, err := devstacktest.Temporal(t.Context())
	require.NoError(t, err)
	t.Cleanup(stopTemporal)
	dir := t.TempDir()
	p.env = append(p.env, "DATABASE_URL="+database, "TEMPORAL_ADDRESS="+temporal, "SOURCE_ALLOW_CIDRS=127.0.0.1/32",
		"THUMBNAILS_BUCKET=file://"+dir, "SHUTDOWN_TIMEOUT=1s", "WORKER_ACTIVITIES=4")
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(slow.Close)
	quick := serveQuickly(t)

	api, worker := p.serve(t, "api"), p.serve(t, "worker")
	worker.awaitLog(t, "worker is ready")
	api.awaitLog(t, "API listens")
	var urls []string
	for i := range 200 {
		urls = append(urls, quick+"/photo.jpg")
		if i%20 == 0 {
			urls = append(urls, slow.URL+"/photo.jpg")
		}
	}
	require.Eventually(t, func() bool { return p.count(t, photo.Pending) == 0 }, time.Minute, 20*time.Millisecond)
	p.requireWatchEndsWhenCanceled(t, temporal, slow.URL+"/photo.jpg")
	p.add(t, urls...)
	require.Eventually(t, func() bool { return p.count(t, photo.Completed) > 10 }, time.Minute, 20*time.Millisecond)

	var requests sync.WaitGroup
	stopped := make(chan struct{})
	for range 4 {
		requests.Go(func() {
			for {
				select {
				case <-stopped:
					return
				default:
					_, _ = client.New(p.api, "").Add(t.Context(), true, urls[0]) // fails when the API has stopped
				}
			}
		})
	}
	for _, s := range []*service{worker, api} {
		require.NoError(t, s.cmd.Process.Signal(syscall.SIGTERM))
	}
	for _, s := range []*service{worker, api} {
		require.Zero(t, s.awaitExit(t))
	}
	close(stopped)
	requests.Wait()
	for _, s := range []*service{worker, api} {
		require.NotContains(t, s.log(t), " level=ERROR ")
	}
}

// requireWatchEndsWhenCanceled cancels the workflow of a photo that is watched
// while its source does not answer.
func (p *program) requireWatchEndsWhenCanceled(t *testing.T, temporalAddress, url string) {
	t.Helper()
	temporal, err := temporalclient.Dial(temporalclient.Options{HostPort: temporalAddress})
	require.NoError(t, err)
	defer temporal.Close()
	added, err := client.New(p.api, "").Add(t.Context(), false, url)
	require.NoError(t, err)
	id := added[0].UUID
	watched := make(chan string, 1)
	go func() {
		out, code := p.run(t, "process", "--watch", id.String())
		watched <- fmt.Sprintf("%s exit %d", out, code)
	}()
	require.Eventually(t, func() bool { return p.photo(t, id).Status == photo.Processing }, time.Minute, 20*time.Millisecond)
	require.NoError(t, temporal.CancelWorkflow(t.Context(), photo.WorkflowID(id), ""))
	select {
	case result := <-watched:
		require.Contains(t, result, id.String()+" failed: canceled: ")
		require.Contains(t, result, " exit 1")
	case <-time.After(time.Minute):
		t.Fatal("it still watches")
	}
}
