package workflows_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/client"
	sdkworker "go.temporal.io/sdk/worker"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/bucket"
	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/postgres/postgrestest"
	"github.com/photo-processor/photo-processor/internal/renderer"
	"github.com/photo-processor/photo-processor/internal/renderer/renderertest"
	"github.com/photo-processor/photo-processor/internal/source"
	"github.com/photo-processor/photo-processor/internal/sourcecache"
	"github.com/photo-processor/photo-processor/internal/starter"
	"github.com/photo-processor/photo-processor/worker"
)

// stack is the real servers that a workflow needs: Temporal, PostgreSQL, a
// source, a renderer, and a bucket on disk.
type stack struct {
	temporal client.Client
	db       *postgres.DB
	source   *httptest.Server
	answer   atomic.Pointer[http.HandlerFunc]
	act      *activities.Activities
}

func newStack(t *testing.T) *stack {
	t.Helper()
	address, stop, err := devstacktest.Temporal(t.Context())
	require.NoError(t, err)
	t.Cleanup(stop)
	// Histories contain identities, which must not depend on the machine.
	temporal, err := client.Dial(client.Options{HostPort: address, Logger: quiet{}, Identity: "api"})
	require.NoError(t, err)
	t.Cleanup(temporal.Close)

	s := &stack{temporal: temporal, db: postgrestest.Open(t)}
	s.source = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*s.answer.Load())(w, r) }))
	t.Cleanup(s.source.Close)

	fetcher, err := source.New(source.Config{AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
	require.NoError(t, err)
	t.Cleanup(fetcher.Close)
	dir := t.TempDir()
	s.act = &activities.Activities{
		DB: s.db, Fetcher: fetcher, Format: photo.JPEG, Log: slog.New(slog.DiscardHandler), BucketTimeout: time.Minute,
		Renderer: renderertest.New(t, renderer.Config{Options: renderer.Options{Boxes: []photo.Box{{Width: 320, Height: 320}}}}),
		Sources:  sourcecache.New(sourcecache.Config{Dir: filepath.Join(dir, "sources"), MaxMemory: 1 << 20, MaxDisk: 1 << 20, MaxAge: time.Minute, MaxDetachedFetches: 10}),
		Temporal: temporal,
		StartPhoto: func(ctx context.Context, id uuid.UUID) error {
			_, err := s.starter().StartPhoto(ctx, id)
			return err
		},
		StartBatchPhoto: func(ctx context.Context, id uuid.UUID) (string, error) {
			run, err := s.starter().StartBatchPhoto(ctx, id)
			if err != nil {
				return "", err
			}
			return run.GetRunID(), nil
		},
		StartConcurrency: 8, BatchRetention: time.Hour,
	}
	s.act.Thumbnails, err = bucket.Open(t.Context(), "file://"+filepath.Join(dir, "thumbnails"))
	require.NoError(t, err)
	s.act.BucketProbe = bucket.NewProbe(s.act.Thumbnails)
	return s
}

func (s *stack) starter() starter.Starter {
	return starter.Starter{Temporal: s.temporal, TaskQueue: taskQueue}
}

// work runs a worker with the activities until the returned function is called.
func (s *stack) work(t *testing.T, act *activities.Activities) (stop func()) {
	t.Helper()
	w := sdkworker.New(s.temporal, taskQueue, workerOptions)
	worker.Register(w, act)
	require.NoError(t, w.Start())
	return w.Stop
}

const taskQueue = "photo-processor"

var workerOptions = sdkworker.Options{
	Identity: "worker", MaxHeartbeatThrottleInterval: time.Second, DefaultHeartbeatThrottleInterval: time.Second,
}

// start sets the source's answer, adds a photo, and starts its workflow.
func (s *stack) start(t *testing.T, answer http.HandlerFunc) client.WorkflowRun {
	t.Helper()
	s.answer.Store(&answer)
	photos, err := s.db.AddPhotos(t.Context(), []string{s.source.URL + "/photo.jpg"})
	require.NoError(t, err)
	return s.process(t, photos[0].UUID)
}

func (s *stack) process(t *testing.T, id uuid.UUID) client.WorkflowRun {
	t.Helper()
	run, err := s.starter().StartPhoto(t.Context(), id)
	require.NoError(t, err)
	return run
}

// pending waits until the run has a pending activity of this type that has had
// an attempt.
func (s *stack) pending(t *testing.T, run client.WorkflowRun, activityType string) {
	t.Helper()
	require.True(t, s.awaitPending(t, run, func(a *workflowpb.PendingActivityInfo) bool {
		return a.GetActivityType().GetName() == activityType && (a.GetLastFailure() != nil || a.GetState() == enumspb.PENDING_ACTIVITY_STATE_STARTED)
	}))
}

// awaitPending waits until the run has a pending activity for which ok is true.
func (s *stack) awaitPending(t *testing.T, run client.WorkflowRun, ok func(*workflowpb.PendingActivityInfo) bool) bool {
	t.Helper()
	return assert.Eventually(t, func() bool {
		description, err := s.temporal.DescribeWorkflowExecution(t.Context(), run.GetID(), run.GetRunID())
		return assert.NoError(t, err) && slices.ContainsFunc(description.GetPendingActivities(), ok)
	}, 30*time.Second, 10*time.Millisecond)
}

func photoOf(t *testing.T, run client.WorkflowRun) uuid.UUID {
	t.Helper()
	id, ok := photo.ParseWorkflowID(run.GetID())
	require.True(t, ok, run.GetID())
	return id
}

// failingOnce is a renderer whose first render crashes.
type failingOnce struct {
	activities.Renderer
	crashed atomic.Bool
}

func (f *failingOnce) Render(ctx context.Context, source renderer.Source) (photo.Rendering, error) {
	if !f.crashed.Swap(true) {
		return photo.Rendering{}, photo.Fail(photo.RenderCrashed, "the renderer crashed")
	}
	return f.Renderer.Render(ctx, source)
}

// hanging is a renderer that never returns a picture.
type hanging struct{}

func (hanging) Render(ctx context.Context, _ renderer.Source) (photo.Rendering, error) {
	<-ctx.Done()
	return photo.Rendering{}, ctx.Err()
}
