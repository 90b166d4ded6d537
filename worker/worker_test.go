package worker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/jpeg"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/devstack"
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

// testBundle is a photo whose source holds its answer back until released.
type testBundle struct {
	cfg      config.Config
	db       *postgres.DB
	temporal client.Client
	photo    uuid.UUID
	content  []byte           // of the sources
	asked    chan struct{}    // gets a value for each request to the source
	release  chan struct{}    // closed: the source answers
	answer   http.HandlerFunc // of the source, if not nil
	stops    chan struct{}    // gets a value when a worker logs that it stops
}

// Write takes the workers' logs.
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
	cfg.ReconcileInterval = 24 * time.Hour // when a test wants it, and not by the clock
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
	_, err = b.starter().Photo(t.Context(), b.photo)
	require.NoError(t, err)
	return b
}

// work runs a worker until the returned function is called, which waits for
// its end.
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
		t.Fatal("nobody asked the source")
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

// pendingActivity waits until the photo has a pending activity for which ok is true.
func (b *testBundle) pendingActivity(t *testing.T, ok func(*workflowpb.PendingActivityInfo) bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		described, err := b.temporal.DescribeWorkflowExecution(t.Context(), photo.WorkflowID(b.photo), "")
		require.NoError(t, err)
		pending := described.GetPendingActivities()
		return len(pending) == 1 && ok(pending[0])
	}, time.Minute, 20*time.Millisecond)
}

// progressOf reads the heartbeat details; they are zero if there are none.
func progressOf(t *testing.T, pending *workflowpb.PendingActivityInfo) (progress activities.Progress) {
	t.Helper()
	if details := pending.GetHeartbeatDetails(); details != nil {
		require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(details, &progress))
	}
	return progress
}

func TestAWorkerThatStopsFinishesWhatItIsDoing(t *testing.T) {
	b := setup(t)
	stop := b.work(t)
	b.awaitRequest(t)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stop()
	}()
	select {
	case <-b.stops: // and now waits for its fetch
	case <-time.After(time.Minute):
		t.Fatal("the worker does not stop")
	}
	close(b.release)
	<-stopped

	b.requireCompleted(t)
	require.Empty(t, b.asked, "the source was asked once")
}

// heartbeatTimeout is when a worker that said nothing would be noticed.
const heartbeatTimeout = 30 * time.Second

func TestWhatAStoppingWorkerCannotFinishIsDoneByAnother(t *testing.T) {
	b := setup(t)
	b.cfg.ShutdownTimeout = time.Second
	stop := b.work(t)
	b.awaitRequest(t)
	start := time.Now()
	stop() // the source never answers it

	b.work(t)
	b.awaitRequest(t)
	close(b.release)
	b.requireCompleted(t)
	require.Less(t, time.Since(start), heartbeatTimeout, "the worker gave it back before it stopped")
}

// TestAStoppedWorkerIsNotLost stops a worker during a regular attempt: the attempt
// reports how it ended, so that it does not count as lost.
func TestAStoppedWorkerIsNotLost(t *testing.T) {
	b := setup(t)
	b.cfg.ShutdownTimeout = time.Second
	stop := b.work(t)
	b.pendingActivity(t, func(pending *workflowpb.PendingActivityInfo) bool {
		return pending.GetState() == enumspb.PENDING_ACTIVITY_STATE_STARTED && pending.GetHeartbeatDetails() != nil
	})
	stop()
	b.pendingActivity(t, func(pending *workflowpb.PendingActivityInfo) bool {
		return progressOf(t, pending).Reported == 1
	})
	close(b.release)
	b.work(t)
	b.requireCompleted(t)
}

// TestALocalActivityIsCanceled cancels while the source keeps the local activity
// waiting.
func TestALocalActivityIsCanceled(t *testing.T) {
	b := setup(t)
	b.work(t)
	b.awaitRequest(t)
	require.NoError(t, b.temporal.CancelWorkflow(t.Context(), photo.WorkflowID(b.photo), ""))
	err := b.temporal.GetWorkflow(t.Context(), photo.WorkflowID(b.photo), "").Get(t.Context(), nil)
	require.True(t, temporal.IsCanceledError(err), "%v", err)
	p, err := b.db.Photo(t.Context(), b.photo)
	require.NoError(t, err)
	require.Equal(t, photo.Canceled, p.Failure.Code)
}

// TestASlowSourceIsSeen has a source send half of a picture and stall: the Web UI shows
// how much has been received, by the one fetch that the local activity began.
func TestASlowSourceIsSeen(t *testing.T) {
	b := setup(t)
	half := len(b.content) / 2
	b.answer = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(b.content)))
		_, _ = w.Write(b.content[:half])
		_ = http.NewResponseController(w).Flush()
		select {
		case <-b.release:
			_, _ = w.Write(b.content[half:])
		case <-r.Context().Done():
		}
	}
	start := time.Now()
	b.work(t)
	b.pendingActivity(t, func(pending *workflowpb.PendingActivityInfo) bool {
		return pending.GetActivityType().GetName() == "FetchSource" && progressOf(t, pending).BytesReceived == int64(half)
	})
	t.Logf("seen after %s", time.Since(start))
	close(b.release)
	b.requireCompleted(t)
	require.Len(t, b.asked, 1)
}

func TestRunWaitsForItsServers(t *testing.T) {
	b := setup(t)
	close(b.release)
	cfg := b.cfg
	b.cfg.DatabaseURL = "postgres://photos@127.0.0.1:1/photos"
	b.work(t)() // asked to stop while it waits, it does
	b.cfg = cfg
	b.work(t)
	b.requireCompleted(t)
}

func TestPhotosMoveOnToTheNextVersion(t *testing.T) {
	b := setup(t)
	b.cfg.WorkerDeployment, b.cfg.WorkerBuildID = t.Name(), "v1"
	deployment := b.temporal.WorkerDeploymentClient().GetHandle(t.Name())
	makeCurrent := func(buildID string) {
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			_, err := deployment.SetCurrentVersion(t.Context(), client.WorkerDeploymentSetCurrentVersionOptions{BuildID: buildID})
			require.NoError(c, err) // Temporal hears of a version from its worker
		}, time.Minute, 50*time.Millisecond)
	}
	stop := b.work(t)
	makeCurrent("v1")
	b.pendingActivity(t, func(*workflowpb.PendingActivityInfo) bool { return true }) // the photo goes on with v1 …
	b.cfg.WorkerBuildID = "v2"
	b.work(t)
	makeCurrent("v2")
	close(b.release)
	stop() // … whose last worker goes
	b.requireCompleted(t)
	described, err := b.temporal.DescribeWorkflowExecution(t.Context(), photo.WorkflowID(b.photo), "")
	require.NoError(t, err)
	version := described.GetWorkflowExecutionInfo().GetVersioningInfo()
	require.Equal(t, "v2", version.GetDeploymentVersion().GetBuildId())
	require.Equal(t, enumspb.VERSIONING_BEHAVIOR_AUTO_UPGRADE, version.GetBehavior())
}

func TestASourceIsSparedWhileTheBucketIsAway(t *testing.T) {
	s3, stop, err := devstacktest.S3(t.Context())
	require.NoError(t, err)
	defer stop()
	s3.Setenv(t)
	require.NoError(t, s3.MakeBucket("thumbnails"))
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

// readyz gives what the worker answers, once it answers with the status.
func (b *testBundle) readyz(t *testing.T, query string, status int) (answer map[string]any) {
	t.Helper()
	require.Eventually(t, func() bool {
		resp, err := devstacktest.HTTPClient.Get("http://" + b.cfg.MetricsAddr + "/readyz" + query)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		answer = nil
		return json.NewDecoder(resp.Body).Decode(&answer) == nil && resp.StatusCode == status
	}, time.Minute, 20*time.Millisecond)
	return answer
}

func TestReadiness(t *testing.T) {
	b := setup(t)
	close(b.release)
	port, err := devstack.FreePort()
	require.NoError(t, err)
	b.cfg.MetricsAddr = fmt.Sprintf("127.0.0.1:%d", port)
	cfg := b.cfg

	b.cfg.DatabaseURL = "postgres://photos@127.0.0.1:1/photos"
	stop := b.work(t)
	require.Equal(t, map[string]any{
		"message": "Not ready", "postgresql": "unreachable", "temporal": "ok", "source_cache_directory": "ok", "thumbnails_bucket": "ok",
		"renderer": "ok", "task_queue": "not polled",
	}, b.readyz(t, "", http.StatusServiceUnavailable), "it waits for PostgreSQL")
	details := b.readyz(t, "?verbose", http.StatusServiceUnavailable)["details"].(map[string]any)
	require.Contains(t, details["postgresql"], "127.0.0.1:1")
	stop()

	b.cfg = cfg
	stop = b.work(t)
	require.Equal(t, map[string]any{
		"message": "Ready", "postgresql": "ok", "temporal": "ok", "source_cache_directory": "ok", "thumbnails_bucket": "ok", "renderer": "ok", "task_queue": "ok",
	}, b.readyz(t, "", http.StatusOK))
	details = b.readyz(t, "?verbose", http.StatusOK)["details"].(map[string]any)
	require.Contains(t, details["renderer"].(map[string]any)["sandbox"], "seccomp")

	require.NoError(t, os.RemoveAll(filepath.Join(cfg.DataDir, "thumbnails")))
	answer := b.readyz(t, "", http.StatusServiceUnavailable)
	require.Equal(t, "unreachable", answer["thumbnails_bucket"])
	require.Equal(t, "ok", answer["postgresql"])
	stop()
	_, err = devstacktest.HTTPClient.Get("http://" + cfg.MetricsAddr + "/healthz")
	require.ErrorIs(t, err, syscall.ECONNREFUSED, "the listener is gone")
}

// reconcile has the schedule run the reconciler now, and gives what it did.
func (b *testBundle) reconcile(t *testing.T) activities.Reconciled {
	t.Helper()
	schedule := b.temporal.ScheduleClient().GetHandle(t.Context(), b.cfg.TaskQueue+"-reconciler")
	before, err := schedule.Describe(t.Context())
	require.NoError(t, err)
	require.NoError(t, schedule.Trigger(t.Context(), client.ScheduleTriggerOptions{Overlap: enumspb.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL}))
	var total activities.Reconciled
	require.Eventually(t, func() bool {
		now, err := schedule.Describe(t.Context())
		require.NoError(t, err)
		if now.Info.NumActions == before.Info.NumActions || len(now.Info.RunningWorkflows) > 0 {
			return false
		}
		started := now.Info.RecentActions[len(now.Info.RecentActions)-1].StartWorkflowResult
		return b.temporal.GetWorkflow(t.Context(), started.WorkflowID, started.FirstExecutionRunID).Get(t.Context(), &total) == nil
	}, time.Minute, 50*time.Millisecond)
	return total
}

func TestReconciler(t *testing.T) {
	b := setup(t)
	b.work(t)
	b.awaitRequest(t)
	require.Equal(t, activities.Reconciled{Checked: 1}, b.reconcile(t), "a photo whose run is open is left alone")

	require.NoError(t, b.temporal.TerminateWorkflow(t.Context(), photo.WorkflowID(b.photo), "", "test"))
	require.Equal(t, activities.Reconciled{Checked: 1, MarkedFailed: 1}, b.reconcile(t))
	p, err := b.db.Photo(t.Context(), b.photo)
	require.NoError(t, err)
	require.Equal(t, photo.Failed, p.Status)
	require.Equal(t, photo.Canceled, p.Failure.Code)

	// A run that Temporal does not know: its history is past retention, or its
	// database was lost. There are more of them than a page has.
	close(b.release)
	const lost = 203
	photos, err := b.db.AddPhotos(t.Context(), slices.Repeat([]string{"ftp://invalid"}, lost-1)) // ends at once
	require.NoError(t, err)
	for _, p := range append(photos, p) {
		run := photo.Run{Photo: p.UUID, ID: uuid.NewString(), StartedAt: time.Now()}
		require.NoError(t, b.db.MarkProcessing(t.Context(), run))
	}
	require.Equal(t, activities.Reconciled{Checked: lost, Restarted: lost}, b.reconcile(t))
	b.requireCompleted(t)
}

func TestTheScheduleFollowsTheConfiguration(t *testing.T) {
	b := setup(t)
	b.cfg.ReconcileInterval = 10 * time.Minute
	b.work(t)
	b.awaitRequest(t)
	schedule := b.temporal.ScheduleClient().GetHandle(t.Context(), b.cfg.TaskQueue+"-reconciler")
	described, err := schedule.Describe(t.Context())
	require.NoError(t, err)
	require.Equal(t, 10*time.Minute, described.Schedule.Spec.Intervals[0].Every)
	require.NoError(t, schedule.Pause(t.Context(), client.SchedulePauseOptions{Note: "an operator's"}))

	b.cfg.ReconcileInterval = time.Minute
	b.work(t)
	require.Eventually(t, func() bool {
		described, err = schedule.Describe(t.Context())
		require.NoError(t, err)
		return described.Schedule.Spec.Intervals[0].Every == time.Minute
	}, time.Minute, 50*time.Millisecond)
	require.True(t, described.Schedule.State.Paused, "what the operator did stays")
	require.Equal(t, enumspb.SCHEDULE_OVERLAP_POLICY_SKIP, described.Schedule.Policy.Overlap)
	close(b.release)
}

func (b *testBundle) starter() starter.Starter {
	return starter.Starter{Temporal: b.temporal, TaskQueue: b.cfg.TaskQueue}
}
