package workflows_test

import (
	"bytes"
	"context"
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
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/api/temporalproto"
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
	"github.com/photo-processor/photo-processor/worker"
	"github.com/photo-processor/photo-processor/workflows"
)

var record = flag.Bool("record", false, "replace the committed histories by those of this run")

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
	s.act = &activities.Activities{
		DB: s.db, Fetcher: fetcher, Format: photo.JPEG, Log: slog.New(slog.DiscardHandler), BucketTimeout: time.Minute, FirstFetchTimeout: 2 * time.Second,
		Renderer: renderertest.New(t, renderer.Config{Options: renderer.Options{Boxes: []photo.Size{{Width: 320, Height: 320}}}}),
	}
	s.act.Temporal = temporal
	s.act.StartProcessing = func(ctx context.Context, id uuid.UUID) error {
		_, err := workflows.Start(ctx, temporal, "photo-processor", id)
		return err
	}
	dir := t.TempDir()
	s.act.Spool = activities.NewSpool(filepath.Join(dir, "spool"), 1<<20)
	s.act.StartConcurrency = 2
	s.act.StartInBatch = func(ctx context.Context, id, batch uuid.UUID) error {
		_, err := workflows.StartInBatch(ctx, temporal, "photo-processor", id, batch, false)
		return err
	}
	s.act.Thumbnails, err = bucket.Open(t.Context(), "file://"+filepath.Join(dir, "thumbnails"))
	require.NoError(t, err)
	return s
}

// work runs a worker with the activities until the returned function is called.
func (s *stack) work(t *testing.T, act *activities.Activities) (stop func()) {
	t.Helper()
	w := sdkworker.New(s.temporal, "photo-processor", sdkworker.Options{
		Identity: "worker", MaxHeartbeatThrottleInterval: time.Second, DefaultHeartbeatThrottleInterval: time.Second,
	})
	worker.Register(w, act)
	require.NoError(t, w.Start())
	starter := sdkworker.New(s.temporal, workflows.StartsQueue("photo-processor"), sdkworker.Options{
		Identity: "worker", DisableWorkflowWorker: true,
	})
	starter.RegisterActivity(act.StartPage)
	require.NoError(t, starter.Start())
	return func() {
		starter.Stop()
		w.Stop()
	}
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
	run, err := workflows.Start(t.Context(), s.temporal, "photo-processor", id)
	require.NoError(t, err)
	return run
}

// pending waits until the run's activity of this type has been attempted.
func (s *stack) pending(t *testing.T, run client.WorkflowRun, activityType string) {
	t.Helper()
	require.Eventually(t, func() bool {
		description, err := s.temporal.DescribeWorkflowExecution(t.Context(), run.GetID(), run.GetRunID())
		require.NoError(t, err)
		for _, a := range description.GetPendingActivities() {
			if a.GetActivityType().GetName() == activityType && (a.GetLastFailure() != nil || a.GetState() == enumspb.PENDING_ACTIVITY_STATE_STARTED) {
				return true
			}
		}
		return false
	}, 30*time.Second, 20*time.Millisecond)
}

// TestRecordHistories takes photos through every kind of life, for real, and
// replays the histories that this makes. With -record they replace those that
// are committed.
func TestRecordHistories(t *testing.T) {
	s := newStack(t)
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	var content bytes.Buffer
	require.NoError(t, jpeg.Encode(&content, image.NewGray(image.Rect(0, 0, 640, 426)), nil))
	ok := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content.Bytes()) }
	dir := t.TempDir()
	if *record {
		dir = "testdata/histories"
	}
	// save waits for the run's end, which must be as wanted.
	save := func(t *testing.T, name string, run client.WorkflowRun, want enumspb.WorkflowExecutionStatus) {
		t.Helper()
		_ = run.Get(t.Context(), nil)
		description, err := s.temporal.DescribeWorkflow(t.Context(), run.GetID(), run.GetRunID())
		require.NoError(t, err)
		require.Equal(t, want, description.Status)
		file := filepath.Join(dir, name+".json")
		saveHistory(t, s.temporal, run, file)
		require.NoError(t, replay(file, workflows.ProcessPhoto))
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
		save(t, "completed_after_outage", run, enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED)
	})

	t.Run("completed after a worker was lost", func(t *testing.T) {
		run := s.start(t, ok)
		// What a worker has done whose workflow task Temporal never heard of again.
		_, err := s.db.MarkProcessing(t.Context(), photo.Run{
			Photo: uuid.MustParse(run.GetID()[len("process-photo-"):]), ID: run.GetRunID(), StartedAt: time.Now().Add(-time.Minute),
		})
		require.NoError(t, err)
		defer s.work(t, s.act)()
		save(t, "completed_after_lost_worker", run, enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED)
	})

	defer s.work(t, s.act)()
	t.Run("completed", func(t *testing.T) {
		save(t, "completed", s.start(t, ok), enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED)
	})
	t.Run("completed on the second attempt", func(t *testing.T) {
		var requests atomic.Int32
		run := s.start(t, func(w http.ResponseWriter, r *http.Request) {
			if requests.Add(1) == 1 {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			ok(w, r)
		})
		save(t, "completed_on_second_attempt", run, enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED)
	})
	t.Run("failed because the source is forbidden", func(t *testing.T) {
		save(t, "failed_source_forbidden", s.start(t, status(http.StatusForbidden)), enumspb.WORKFLOW_EXECUTION_STATUS_FAILED)
	})
	t.Run("failed because the picture is corrupt", func(t *testing.T) {
		run := s.start(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content.Bytes()[:1000]) })
		save(t, "failed_corrupt_image", run, enumspb.WORKFLOW_EXECUTION_STATUS_FAILED)
	})
	t.Run("failed because there is no such photo", func(t *testing.T) {
		save(t, "failed_photo_not_found", s.process(t, uuid.New()), enumspb.WORKFLOW_EXECUTION_STATUS_FAILED)
	})
	t.Run("canceled while fetching", func(t *testing.T) {
		run := s.start(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		s.pending(t, run, "MakeThumbnails")
		require.NoError(t, s.temporal.CancelWorkflow(t.Context(), run.GetID(), run.GetRunID()))
		save(t, "canceled_while_fetching", run, enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED)
		id := uuid.MustParse(run.GetID()[len("process-photo-"):])
		p, err := s.db.Photo(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, photo.Failed, p.Status)
		require.Equal(t, photo.Canceled, p.Failure.Code)
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
		run, err := s.temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "reconciler", TaskQueue: "photo-processor"},
			workflows.ReconcilePhotos, workflows.ReconcilePhotosInput{})
		require.NoError(t, err)
		save(t, "reconciled", run, enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED)
		for _, p := range photos { // they are processed again
			require.NoError(t, s.temporal.GetWorkflow(t.Context(), photo.WorkflowID(p.UUID), "").Get(t.Context(), nil))
		}
	})
	t.Run("started many", func(t *testing.T) {
		answer := http.HandlerFunc(ok)
		s.answer.Store(&answer)
		urls := make([]string, 3)
		for i := range urls {
			urls[i] = s.source.URL
		}
		photos, err := s.db.AddPhotos(t.Context(), urls)
		require.NoError(t, err)
		ids := make([]uuid.UUID, len(photos))
		for i, p := range photos {
			ids[i] = p.UUID
		}
		run, err := workflows.StartMany(t.Context(), s.temporal, "photo-processor", ids)
		require.NoError(t, err)
		save(t, "started_many", run, enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED)
		for _, id := range ids {
			require.NoError(t, s.temporal.GetWorkflow(t.Context(), photo.WorkflowID(id), "").Get(t.Context(), nil))
		}
	})
	t.Run("canceled between attempts", func(t *testing.T) {
		run := s.start(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
		})
		require.Eventually(t, func() bool { return strings.HasPrefix(details(t, s.temporal, run), "making thumbnails: waiting") }, 30*time.Second, 20*time.Millisecond)
		require.NoError(t, s.temporal.CancelWorkflow(t.Context(), run.GetID(), run.GetRunID()))
		save(t, "canceled_between_attempts", run, enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED)
	})
}

// details gives what the Web UI shows as the workflow's current details.
func details(t *testing.T, temporal client.Client, run client.WorkflowRun) string {
	t.Helper()
	value, err := temporal.QueryWorkflow(t.Context(), run.GetID(), run.GetRunID(), "__temporal_workflow_metadata")
	require.NoError(t, err)
	var metadata sdkpb.WorkflowMetadata
	require.NoError(t, value.Get(&metadata))
	return metadata.GetCurrentDetails()
}

// saveHistory writes the run's history in the form of `temporal workflow show
// --output json`.
func saveHistory(t *testing.T, temporal client.Client, run client.WorkflowRun, file string) {
	t.Helper()
	var history historypb.History
	events := temporal.GetWorkflowHistory(context.WithoutCancel(t.Context()), run.GetID(), run.GetRunID(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		require.NoError(t, err)
		history.Events = append(history.Events, event)
	}
	content, err := temporalproto.CustomJSONMarshalOptions{Indent: "  "}.Marshal(&history)
	require.NoError(t, err)
	host, err := os.Hostname() // in the names of sticky queues; it is nobody's business
	require.NoError(t, err)
	content = bytes.ReplaceAll(content, []byte(`"`+host+":"), []byte(`"host:`))
	require.NoError(t, os.WriteFile(file, append(content, '\n'), 0o644))
	t.Log(fmt.Sprintf("%d events, %d bytes", len(history.Events), len(content)), "in", file)
}
