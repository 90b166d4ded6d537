package workflows_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"image"
	"image/jpeg"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/temporalproto"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
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
	"github.com/photo-processor/photo-processor/workflows"
)

var record = flag.Bool("record", false, "commit the histories of this run that are not committed yet")

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(postgrestest.Main(m))
}

// stack is all that a workflow needs, for real.
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
	// Identities go into histories; they are to be the same on every machine.
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
	start := starter.Starter{Temporal: temporal, TaskQueue: taskQueue}
	s.act = &activities.Activities{
		DB: s.db, Fetcher: fetcher, Format: photo.JPEG, Log: slog.New(slog.DiscardHandler), BucketTimeout: time.Minute,
		Renderer: renderertest.New(t, renderer.Config{Options: renderer.Options{Boxes: []photo.Size{{Width: 320, Height: 320}}}}),
		Sources:  sourcecache.New(sourcecache.Config{Dir: filepath.Join(dir, "sources"), MaxMemory: 1 << 20, MaxDisk: 1 << 20, MaxAge: time.Minute, MaxUnattended: 10}),
		Temporal: temporal,
		StartProcessing: func(ctx context.Context, id uuid.UUID) error {
			_, err := start.Photo(ctx, id)
			return err
		},
		StartInBatch: func(ctx context.Context, id uuid.UUID) error {
			_, err := start.BatchPhoto(ctx, id)
			return err
		},
		StartConcurrency: 8,
	}
	s.act.Thumbnails, err = bucket.Open(t.Context(), "file://"+filepath.Join(dir, "thumbnails"))
	require.NoError(t, err)
	return s
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

// start adds a photo, whose source answers so, and starts its workflow.
func (s *stack) start(t *testing.T, answer http.HandlerFunc) client.WorkflowRun {
	t.Helper()
	s.answer.Store(&answer)
	photos, err := s.db.AddPhotos(t.Context(), []string{s.source.URL + "/photo.jpg"})
	require.NoError(t, err)
	return s.process(t, photos[0].UUID)
}

func (s *stack) process(t *testing.T, id uuid.UUID) client.WorkflowRun {
	t.Helper()
	run, err := (starter.Starter{Temporal: s.temporal, TaskQueue: taskQueue}).Photo(t.Context(), id)
	require.NoError(t, err)
	return run
}

// pending waits until the run's activity of this type has been attempted.
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

// historiesDir has the committed histories. Those of v1 are never changed or removed:
// code that is deployed must replay what older code has begun.
const historiesDir = "testdata/histories/v1"

// save waits for the run's end, which must be as wanted, and replays its history. With
// -record it is committed, if there is none of the name.
func (s *stack) save(t *testing.T, name string, run client.WorkflowRun, want enumspb.WorkflowExecutionStatus) {
	t.Helper()
	_ = run.GetWithOptions(t.Context(), nil, client.WorkflowRunGetOptions{DisableFollowingRuns: true})
	description, err := s.temporal.DescribeWorkflow(t.Context(), run.GetID(), run.GetRunID())
	require.NoError(t, err)
	require.Equal(t, want, description.Status)
	content := s.history(t, run)
	file := filepath.Join(t.TempDir(), name+".json")
	require.NoError(t, os.WriteFile(file, content, 0o644))
	require.NoError(t, replay(file, workflows.ProcessPhoto, workflows.StartPhotos, workflows.ReconcilePhotos))
	if !*record {
		return
	}
	committed, err := os.OpenFile(filepath.Join(historiesDir, name+".json"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, os.ErrExist) {
		return
	}
	require.NoError(t, err)
	_, err = committed.Write(content)
	require.NoError(t, errors.Join(err, committed.Close()))
	sums, err := os.OpenFile(sumsFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	require.NoError(t, err)
	_, err = fmt.Fprintf(sums, "%x  %s.json\n", sha256.Sum256(content), name)
	require.NoError(t, errors.Join(err, sums.Close()))
}

// failingOnce is a renderer that crashes with its first picture.
type failingOnce struct {
	activities.Renderer
	crashed atomic.Bool
}

func (f *failingOnce) Render(ctx context.Context, source renderer.Source) ([]photo.Picture, error) {
	if !f.crashed.Swap(true) {
		return nil, photo.Fail(photo.RenderCrashed, "the renderer crashed")
	}
	return f.Renderer.Render(ctx, source)
}

// TestRecordHistories takes photos through every kind of life, for real, and
// replays the histories that this makes. With -record, histories that are not
// committed yet are.
func TestRecordHistories(t *testing.T) {
	const (
		completed = enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
		failed    = enumspb.WORKFLOW_EXECUTION_STATUS_FAILED
		canceled  = enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED
	)
	s := newStack(t)
	status := func(code int, retryAfter string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", retryAfter)
			w.WriteHeader(code)
		}
	}
	var content bytes.Buffer
	require.NoError(t, jpeg.Encode(&content, image.NewGray(image.Rect(0, 0, 640, 426)), nil))
	ok := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content.Bytes()) }
	stall := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	cancel := func(t *testing.T, run client.WorkflowRun) {
		t.Helper()
		require.NoError(t, s.temporal.CancelWorkflow(t.Context(), run.GetID(), run.GetRunID()))
	}
	requireCanceled := func(t *testing.T, run client.WorkflowRun) {
		t.Helper()
		p, err := s.db.Photo(t.Context(), photoOf(run))
		require.NoError(t, err)
		require.Equal(t, photo.Failed, p.Status)
		require.Equal(t, photo.Canceled, p.Failure.Code)
	}

	t.Run("completed after an outage of PostgreSQL", func(t *testing.T) {
		away := *s.act
		var err error
		away.DB, err = postgres.Open("postgres://photos@127.0.0.1:1/photos", 1)
		require.NoError(t, err)
		defer away.DB.Close()
		stop := s.work(t, &away)
		run := s.start(t, ok)
		s.pending(t, run, "MarkProcessing")
		stop()
		defer s.work(t, s.act)()
		s.save(t, "completed_after_outage", run, completed)
	})
	t.Run("completed after a workflow task was lost", func(t *testing.T) {
		run := s.start(t, ok)
		// A worker that takes the task and is lost: Temporal's timeout is 10 seconds.
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		task, err := s.temporal.WorkflowService().PollWorkflowTaskQueue(ctx, &workflowservice.PollWorkflowTaskQueueRequest{
			Namespace: "default", TaskQueue: &taskqueuepb.TaskQueue{Name: taskQueue}, Identity: "worker",
		})
		require.NoError(t, err)
		require.NotEmpty(t, task.GetTaskToken())
		defer s.work(t, s.act)()
		s.save(t, "completed_after_lost_task", run, completed)
	})
	t.Run("completed after a heartbeat timeout", func(t *testing.T) {
		workflowsOnly := sdkworker.New(s.temporal, taskQueue, sdkworker.Options{Identity: "worker", LocalActivityWorkerOnly: true})
		worker.Register(workflowsOnly, s.act)
		require.NoError(t, workflowsOnly.Start())
		var requests atomic.Int32
		run := s.start(t, func(w http.ResponseWriter, r *http.Request) {
			if requests.Add(1) == 1 {
				status(http.StatusServiceUnavailable, "")(w, r)
				return
			}
			ok(w, r)
		})
		// A worker that takes the activity and is lost.
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		task, err := s.temporal.WorkflowService().PollActivityTaskQueue(ctx, &workflowservice.PollActivityTaskQueueRequest{
			Namespace: "default", TaskQueue: &taskqueuepb.TaskQueue{Name: taskQueue}, Identity: "worker",
		})
		require.NoError(t, err)
		require.Equal(t, "FetchSource", task.GetActivityType().GetName())
		workflowsOnly.Stop()
		defer s.work(t, s.act)()
		s.save(t, "completed_after_heartbeat_timeout", run, completed)
	})
	t.Run("canceled before anything", func(t *testing.T) {
		run := s.start(t, ok)
		cancel(t, run)
		defer s.work(t, s.act)()
		s.save(t, "canceled_before", run, canceled)
		requireCanceled(t, run)
	})
	t.Run("completed on the second rendering", func(t *testing.T) {
		act := *s.act
		act.Renderer = &failingOnce{Renderer: s.act.Renderer}
		defer s.work(t, &act)()
		s.save(t, "completed_after_render_crash", s.start(t, ok), completed)
	})
	t.Run("canceled while rendering", func(t *testing.T) {
		act := *s.act
		act.Renderer = hanging{}
		defer s.work(t, &act)()
		run := s.start(t, ok)
		s.pending(t, run, "MakeThumbnails")
		cancel(t, run)
		s.save(t, "canceled_while_rendering", run, canceled)
		requireCanceled(t, run)
	})

	defer s.work(t, s.act)()
	t.Run("completed", func(t *testing.T) {
		s.save(t, "completed", s.start(t, ok), completed)
	})
	t.Run("completed with a slow source", func(t *testing.T) {
		release := make(chan struct{})
		var requests atomic.Int32
		run := s.start(t, func(w http.ResponseWriter, r *http.Request) {
			requests.Add(1)
			<-release
			ok(w, r)
		})
		s.pending(t, run, "FetchSource")
		close(release)
		s.save(t, "completed_slow_source", run, completed)
		require.EqualValues(t, 1, requests.Load(), "the regular activity waits for the fetch of the local one")
	})
	t.Run("failed because the source is forbidden", func(t *testing.T) {
		s.save(t, "failed_source_forbidden", s.start(t, status(http.StatusForbidden, "")), failed)
	})
	t.Run("failed after five attempts", func(t *testing.T) {
		s.save(t, "failed_source_unavailable", s.start(t, status(http.StatusServiceUnavailable, "1")), failed)
	})
	t.Run("failed because the picture is corrupt", func(t *testing.T) {
		run := s.start(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content.Bytes()[:1000]) })
		s.save(t, "failed_corrupt_image", run, failed)
	})
	t.Run("failed because there is no such photo", func(t *testing.T) {
		s.save(t, "failed_photo_not_found", s.process(t, uuid.New()), failed)
	})
	t.Run("canceled while fetching", func(t *testing.T) {
		run := s.start(t, stall)
		s.pending(t, run, "FetchSource")
		cancel(t, run)
		s.save(t, "canceled_while_fetching", run, canceled)
		requireCanceled(t, run)
	})
	t.Run("canceled between attempts", func(t *testing.T) {
		run := s.start(t, status(http.StatusTooManyRequests, "3600"))
		s.pending(t, run, "FetchSource")
		cancel(t, run)
		s.save(t, "canceled_between_attempts", run, canceled)
		requireCanceled(t, run)
	})
	t.Run("canceled while an attempt fails", func(t *testing.T) {
		var requests atomic.Int32
		var run atomic.Value
		started := make(chan struct{})
		run.Store(s.start(t, func(w http.ResponseWriter, r *http.Request) {
			if requests.Add(1) == 2 { // Temporal does not retry a failure after this
				<-started
				run := run.Load().(client.WorkflowRun)
				cancel(t, run)
				s.awaitPending(t, run, func(a *workflowpb.PendingActivityInfo) bool {
					return a.GetState() == enumspb.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED
				})
			}
			status(http.StatusServiceUnavailable, "")(w, r)
		}))
		close(started)
		s.save(t, "canceled_while_failing", run.Load().(client.WorkflowRun), canceled)
		requireCanceled(t, run.Load().(client.WorkflowRun))
	})
	t.Run("reconciled", func(t *testing.T) {
		answer := http.HandlerFunc(ok)
		s.answer.Store(&answer)
		photos, err := s.db.AddPhotos(t.Context(), []string{s.source.URL, s.source.URL})
		require.NoError(t, err)
		for _, p := range photos {
			require.NoError(t, s.db.MarkProcessing(t.Context(), photo.Run{Photo: p.UUID, ID: uuid.NewString(), StartedAt: time.Now()}))
		}
		run, err := s.temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "reconciler", TaskQueue: taskQueue},
			workflows.ReconcilePhotos, workflows.ReconcilePhotosInput{})
		require.NoError(t, err)
		s.save(t, "reconciled", run, completed)
		for _, p := range photos { // they are processed again
			require.NoError(t, s.temporal.GetWorkflow(t.Context(), photo.WorkflowID(p.UUID), "").Get(t.Context(), nil))
		}
	})
	t.Run("reconciled as a new run", func(t *testing.T) {
		// As if there were 25 pages.
		w := sdkworker.New(s.temporal, "many-pages", workerOptions)
		w.RegisterWorkflow(workflows.ReconcilePhotos)
		w.RegisterActivityWithOptions(func(_ context.Context, in activities.ReconcilePageInput) (*activities.ReconcilePageResult, error) {
			next := activities.ReconcileCursor{CreatedAt: in.After.CreatedAt.Add(time.Second)}
			return &activities.ReconcilePageResult{Next: next, Last: next.CreatedAt.Unix() == 25}, nil
		}, activity.RegisterOptions{Name: "ReconcilePage"})
		require.NoError(t, w.Start())
		defer w.Stop()
		run, err := s.temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "reconciler-of-many", TaskQueue: "many-pages"},
			workflows.ReconcilePhotos, workflows.ReconcilePhotosInput{After: activities.ReconcileCursor{CreatedAt: time.Unix(0, 0).UTC()}})
		require.NoError(t, err)
		s.save(t, "reconciled_as_new_run", run, enumspb.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW)
	})
	t.Run("started many", func(t *testing.T) {
		ids := make([]uuid.UUID, 401) // three pages of photos that do not exist
		for i := range ids {
			ids[i] = uuid.New()
		}
		run, err := (starter.Starter{Temporal: s.temporal, TaskQueue: taskQueue}).Batch(t.Context(), ids)
		require.NoError(t, err)
		s.save(t, "started_many", run, completed)
		for _, id := range []uuid.UUID{ids[0], ids[400]} {
			err := s.temporal.GetWorkflow(t.Context(), photo.WorkflowID(id), "").Get(t.Context(), nil)
			require.ErrorContains(t, err, "PhotoNotFound")
		}
	})
}

// hanging is a renderer that never ends.
type hanging struct{}

func (hanging) Render(ctx context.Context, _ renderer.Source) ([]photo.Picture, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func photoOf(run client.WorkflowRun) uuid.UUID {
	return uuid.MustParse(strings.TrimPrefix(run.GetID(), "process-photo-"))
}

// history returns the run's history in the form of `temporal workflow show --output
// json`.
func (s *stack) history(t *testing.T, run client.WorkflowRun) []byte {
	t.Helper()
	var history historypb.History
	events := s.temporal.GetWorkflowHistory(context.WithoutCancel(t.Context()), run.GetID(), run.GetRunID(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		require.NoError(t, err)
		history.Events = append(history.Events, event)
	}
	content, err := temporalproto.CustomJSONMarshalOptions{Indent: "  "}.Marshal(&history)
	require.NoError(t, err)
	host, err := os.Hostname() // in the names of sticky queues
	require.NoError(t, err)
	t.Log(len(history.Events), "events,", len(content), "bytes")
	return append(bytes.ReplaceAll(content, []byte(`"`+host+":"), []byte(`"host:`)), '\n')
}
