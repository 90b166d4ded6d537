package workflows_test

import (
	"bytes"
	"context"
	"image"
	"image/jpeg"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	sdkworker "go.temporal.io/sdk/worker"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/starter"
	"github.com/photo-processor/photo-processor/internal/webhook"
	"github.com/photo-processor/photo-processor/worker"
	"github.com/photo-processor/photo-processor/workflows"
)

// TestRecordHistories runs workflows against real servers through every
// outcome, and replays their histories. With -record, it writes those that are
// not committed yet.
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
		p, err := s.db.Photo(t.Context(), photoOf(t, run))
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
		// Poll the task and never complete it, as a crashed worker does.
		// Temporal reschedules it after 10 seconds.
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
		// Poll the activity and never complete it, as a crashed worker does.
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

	stop := s.work(t, s.act)
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
			if requests.Add(1) == 2 { // a retryable failure, after the cancellation
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
			_, err := s.db.MarkProcessing(t.Context(), photo.Run{Photo: p.UUID, ID: uuid.NewString(), StartedAt: time.Now()})
			require.NoError(t, err)
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
			next := activities.Cursor{CreatedAt: in.After.CreatedAt.Add(time.Second)}
			return &activities.ReconcilePageResult{Next: next, Last: next.CreatedAt.Unix() == 25}, nil
		}, activity.RegisterOptions{Name: "ReconcilePage"})
		require.NoError(t, w.Start())
		defer w.Stop()
		run, err := s.temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "reconciler-of-many", TaskQueue: "many-pages"},
			workflows.ReconcilePhotos, workflows.ReconcilePhotosInput{After: activities.Cursor{CreatedAt: time.Unix(0, 0).UTC()}})
		require.NoError(t, err)
		s.save(t, "reconciled_as_new_run", run, enumspb.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW)
	})
	t.Run("started a batch", func(t *testing.T) {
		ids := make([]uuid.UUID, 401) // three pages of photos that do not exist
		for i := range ids {
			ids[i] = uuid.New()
		}
		batch := uuid.New()
		run, err := s.starter().StartBatch(t.Context(), batch, ids)
		require.NoError(t, err)
		s.save(t, "started_batch", run, completed)
		for _, id := range []uuid.UUID{ids[0], ids[400]} {
			err := s.temporal.GetWorkflow(t.Context(), photo.WorkflowID(id), "").Get(t.Context(), nil)
			require.ErrorContains(t, err, "PhotoNotFound")
		}
		got, err := s.db.Batch(t.Context(), batch)
		require.NoError(t, err)
		require.Equal(t, map[photo.Code]int{photo.NotFound: 401}, got.Failures)
		require.NotZero(t, got.DoneAt)
	})
	failedPhotos := func(t *testing.T, n int) {
		t.Helper()
		photos, err := s.db.AddPhotos(t.Context(), slices.Repeat([]string{"ftp://invalid"}, n)) // fail at once
		require.NoError(t, err)
		for _, p := range photos {
			_, _, err := s.db.Finish(t.Context(), photo.Run{Photo: p.UUID, ID: "old", StartedAt: time.Unix(1, 0)}, photo.Fail(photo.SourceTimeout, "slow"))
			require.NoError(t, err)
		}
	}
	selected := func(limit int) workflows.StartSelectedInput {
		return workflows.StartSelectedInput{
			Batch: uuid.New(), Query: "code=source_timeout&status=failed", Limit: limit,
			Selection: photo.Selection{Status: photo.Failed, Code: photo.SourceTimeout, CreatedBefore: time.Now()},
		}
	}
	t.Run("started the selected photos", func(t *testing.T) {
		failedPhotos(t, 210)
		in := selected(205)
		run, err := s.starter().StartSelected(t.Context(), in)
		require.NoError(t, err)
		s.save(t, "started_selected", run, completed)
		got, err := s.db.Batch(t.Context(), in.Batch)
		require.NoError(t, err)
		require.Equal(t, 205, got.Total())
	})
	// slow has an act whose pages take until they are released.
	slow := func() (act *activities.Activities, started, release chan struct{}) {
		copied := *s.act
		started, release = make(chan struct{}, 1000), make(chan struct{})
		copied.StartBatchPhoto = func(context.Context, uuid.UUID) (string, error) {
			started <- struct{}{}
			<-release
			return "run", nil
		}
		return &copied, started, release
	}
	cancelDuringPage := func(t *testing.T, name string, batch uuid.UUID, start func(s starter.Starter) (client.WorkflowRun, error), total int) {
		t.Helper()
		act, started, release := slow()
		w := sdkworker.New(s.temporal, name, workerOptions)
		worker.Register(w, act)
		require.NoError(t, w.Start())
		defer w.Stop()
		run, err := start(starter.Starter{Temporal: s.temporal, TaskQueue: name})
		require.NoError(t, err)
		<-started
		cancel(t, run)
		close(release)
		s.save(t, name, run, canceled)
		got, err := s.db.Batch(t.Context(), batch)
		require.NoError(t, err)
		require.True(t, got.Canceled)
		require.Equal(t, total, got.Total(), "one page was started")
	}
	t.Run("canceled a batch", func(t *testing.T) {
		batch, ids := uuid.New(), make([]uuid.UUID, 401)
		for i := range ids {
			ids[i] = uuid.New()
		}
		cancelDuringPage(t, "canceled_batch", batch, func(s starter.Starter) (client.WorkflowRun, error) {
			return s.StartBatch(t.Context(), batch, ids)
		}, 200)
	})
	t.Run("canceled a selection", func(t *testing.T) {
		failedPhotos(t, 210)
		in := selected(0)
		cancelDuringPage(t, "canceled_selected", in.Batch, func(s starter.Starter) (client.WorkflowRun, error) {
			return s.StartSelected(t.Context(), in)
		}, 200)
	})
	t.Run("started selected photos as a new run", func(t *testing.T) {
		// As if there were 52 pages.
		w := sdkworker.New(s.temporal, "many-selected", workerOptions)
		w.RegisterWorkflow(workflows.StartSelected)
		w.RegisterActivityWithOptions(func(_ context.Context, in activities.SelectPageInput) (*activities.SelectPageResult, error) {
			return &activities.SelectPageResult{Photos: make(photo.IDs, 200), Next: activities.Cursor{CreatedAt: in.After.CreatedAt.Add(time.Second)}}, nil
		}, activity.RegisterOptions{Name: "SelectPage"})
		w.RegisterActivityWithOptions(func(context.Context, activities.StartPageInput) error { return nil }, activity.RegisterOptions{Name: "StartPage"})
		w.RegisterActivityWithOptions(func(context.Context, activities.EndBatchInput) error { return nil }, activity.RegisterOptions{Name: "EndBatch"})
		require.NoError(t, w.Start())
		defer w.Stop()
		in := selected(50*200 + 2*200)
		run, err := starter.Starter{Temporal: s.temporal, TaskQueue: "many-selected"}.StartSelected(t.Context(), in)
		require.NoError(t, err)
		s.save(t, "started_selected_as_new_run", run, enumspb.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW)
		require.NoError(t, s.temporal.GetWorkflow(t.Context(), run.GetID(), "").Get(t.Context(), nil))
	})

	// With a receiver of webhooks, and the search attribute.
	var answer atomic.Int32
	answer.Store(http.StatusNoContent)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(answer.Load())) }))
	defer receiver.Close()
	notifying := *s.act
	var err error
	notifying.Webhook, err = webhook.New(webhook.Config{URL: receiver.URL, Secrets: []string{"whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}, Timeout: time.Minute})
	require.NoError(t, err)
	notifying.HasFailureAttribute = true
	stop()
	defer s.work(t, &notifying)()
	t.Run("failed with a webhook", func(t *testing.T) {
		run := s.start(t, status(http.StatusForbidden, ""))
		s.save(t, "failed_notified", run, failed)
		require.Eventually(t, func() bool {
			found, err := s.temporal.CountWorkflow(t.Context(), &workflowservice.CountWorkflowExecutionsRequest{
				Query: "PhotoFailure = 'source_forbidden' AND WorkflowId = '" + run.GetID() + "'"})
			require.NoError(t, err)
			return found.GetCount() == 1
		}, time.Minute, 50*time.Millisecond)
	})
	t.Run("completed while the receiver of webhooks is away", func(t *testing.T) {
		answer.Store(http.StatusInternalServerError)
		run := s.start(t, ok)
		s.save(t, "completed_receiver_away", run, completed)
		answer.Store(http.StatusNoContent)
		retries := s.temporal.GetWorkflow(t.Context(), "webhook-"+run.GetRunID(), "")
		s.save(t, "webhook_retried", retries, completed)
	})
	t.Run("a batch with a webhook", func(t *testing.T) {
		failedPhotos(t, 2)
		in := selected(0)
		run, err := s.starter().StartSelected(t.Context(), in)
		require.NoError(t, err)
		s.save(t, "started_selected_notified", run, completed)
		s.save(t, "batch_notified", s.temporal.GetWorkflow(t.Context(), workflows.BatchWebhookID(in.Batch), ""), completed)
	})
	t.Run("deleted while it is fetched", func(t *testing.T) {
		run := s.start(t, stall)
		s.pending(t, run, "FetchSource")
		id := photoOf(t, run)
		deletion, err := s.starter().StartDelete(t.Context(), id)
		require.NoError(t, err)
		s.save(t, "deleted_while_fetching", deletion, completed)
		s.save(t, "canceled_by_deletion", run, canceled)
		_, err = s.db.Photo(t.Context(), id)
		require.ErrorIs(t, err, photo.ErrNotFound)
	})
	t.Run("deleted without a run", func(t *testing.T) {
		deletion, err := s.starter().StartDelete(t.Context(), uuid.New())
		require.NoError(t, err)
		s.save(t, "deleted", deletion, completed)
	})
}
