package worker_test

import (
	"bytes"
	"context"
	"image"
	"image/jpeg"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/postgres/postgrestest"
	"github.com/photo-processor/photo-processor/internal/renderer/renderertest"
	"github.com/photo-processor/photo-processor/internal/starter"
	"github.com/photo-processor/photo-processor/worker"
)

func TestMain(m *testing.M) {
	os.Exit(devstacktest.WithTemporal(func() int { return postgrestest.Main(m) }))
}

// testBundle is a started photo, whose source answers once release is closed.
type testBundle struct {
	cfg      config.Config
	db       *postgres.DB
	temporal client.Client
	photo    uuid.UUID
	content  []byte           // of the sources
	asked    chan struct{}    // receives a value for each request to the source
	release  chan struct{}    // the source answers once it is closed
	answer   http.HandlerFunc // answers for the source unless nil
	stops    chan struct{}    // receives a value when a worker logs that it stops
}

// Write reads the workers' log lines.
func (b *testBundle) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("worker stops")) {
		b.stops <- struct{}{}
	}
	return len(line), nil
}

func setup(t *testing.T) *testBundle {
	t.Helper()
	url := postgrestest.URL(t)
	cfg, err := config.Parse(map[string]string{
		"DATA_DIR": t.TempDir(), "DATABASE_URL": url, "TASK_QUEUE": t.Name() + uuid.NewString(), "SOURCE_ALLOW_CIDRS": "127.0.0.1/32",
		"RENDERER_PATH": renderertest.Path(t), "RENDER_CONCURRENCY": "1",
	})
	require.NoError(t, err)
	cfg.ReconcileInterval = 24 * time.Hour // tests trigger the reconciler themselves
	b := &testBundle{cfg: cfg, asked: make(chan struct{}, 10), release: make(chan struct{}), stops: make(chan struct{}, 10)}
	b.db, err = postgres.Open(url, 2)
	require.NoError(t, err)
	t.Cleanup(b.db.Close)
	b.temporal, err = client.Dial(client.Options{HostPort: os.Getenv("TEMPORAL_ADDRESS")})
	require.NoError(t, err)
	t.Cleanup(b.temporal.Close)

	var content bytes.Buffer
	require.NoError(t, jpeg.Encode(&content, image.NewGray(image.Rect(0, 0, 640, 426)), nil))
	b.content = content.Bytes()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.asked <- struct{}{}
		if b.answer != nil {
			b.answer(w, r)
			return
		}
		select {
		case <-b.release:
			_, _ = w.Write(b.content)
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(server.Close)
	photos, err := b.db.AddPhotos(t.Context(), []string{server.URL})
	require.NoError(t, err)
	b.photo = photos[0].UUID
	_, err = b.starter().StartPhoto(t.Context(), b.photo)
	require.NoError(t, err)
	return b
}

// work runs a worker until the returned function is called, which waits until
// the worker has stopped.
func (b *testBundle) work(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- worker.Run(ctx, b.cfg, slog.New(slog.NewTextHandler(b, nil))) }()
	var stopped atomic.Bool
	stop = func() {
		if stopped.Swap(true) {
			return
		}
		cancel()
		select {
		case err := <-ended:
			require.NoError(t, err)
		case <-time.After(time.Minute):
			t.Fatal("the worker does not stop")
		}
	}
	t.Cleanup(stop)
	return stop
}

func (b *testBundle) awaitRequest(t *testing.T) {
	t.Helper()
	select {
	case <-b.asked:
	case <-time.After(time.Minute):
		t.Fatal("the source got no request")
	}
}

func (b *testBundle) requireCompleted(t *testing.T) {
	t.Helper()
	require.NoError(t, b.temporal.GetWorkflow(t.Context(), photo.WorkflowID(b.photo), "").Get(t.Context(), nil))
	p, err := b.db.Photo(t.Context(), b.photo)
	require.NoError(t, err)
	require.Equal(t, photo.Completed, p.Status)
	require.Len(t, p.Thumbnails, 1)
}

// pendingActivity waits until the photo has a pending activity for which ok is
// true.
func (b *testBundle) pendingActivity(t *testing.T, ok func(*workflowpb.PendingActivityInfo) bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		described, err := b.temporal.DescribeWorkflowExecution(t.Context(), photo.WorkflowID(b.photo), "")
		require.NoError(t, err)
		pending := described.GetPendingActivities()
		return len(pending) == 1 && ok(pending[0])
	}, time.Minute, 20*time.Millisecond)
}

// progressOf decodes the heartbeat details; the result is zero if there are
// none.
func progressOf(t *testing.T, pending *workflowpb.PendingActivityInfo) (progress activities.Progress) {
	t.Helper()
	if details := pending.GetHeartbeatDetails(); details != nil {
		require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(details, &progress))
	}
	return progress
}

func (b *testBundle) starter() starter.Starter {
	return starter.Starter{Temporal: b.temporal, TaskQueue: b.cfg.TaskQueue}
}
