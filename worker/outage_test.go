package worker_test

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	workflowpb "go.temporal.io/api/workflow/v1"

	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
)

func TestRunWaitsForItsServers(t *testing.T) {
	b := setup(t)
	close(b.release)
	cfg := b.cfg
	b.cfg.DatabaseURL = "postgres://photos@127.0.0.1:1/photos"
	b.work(t)() // a waiting worker stops when its context is done
	b.cfg = cfg
	b.work(t)
	b.requireCompleted(t)
}

func TestABucketOutageFetchesTheSourceOnce(t *testing.T) {
	s3, stop, err := devstacktest.S3(t.Context())
	require.NoError(t, err)
	defer stop()
	s3.Setenv(t)
	require.NoError(t, s3.CreateBucket("thumbnails"))
	var back, written atomic.Bool
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			written.Store(true)
		}
		if written.Load() && !back.Load() { // from the first write on
			w.WriteHeader(http.StatusForbidden)
			return
		}
		s3.Handler().ServeHTTP(w, r)
	}))
	defer proxy.Close()

	b := setup(t)
	close(b.release)
	b.cfg.ThumbnailsBucket = s3.Through(proxy.URL).BucketURL("thumbnails")
	b.work(t)
	b.pendingActivity(t, func(pending *workflowpb.PendingActivityInfo) bool { return pending.GetAttempt() >= 3 })
	back.Store(true)
	b.requireCompleted(t)
	require.Len(t, b.asked, 1, "the source is in the cache")
}
