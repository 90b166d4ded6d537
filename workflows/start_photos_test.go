package workflows_test

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/workflows"
)

// TestAPageThatIsRepeatedStartsNothingTwice has a page fail when it has started
// one of two photos, which somebody else then has processed again.
func TestAPageThatIsRepeatedStartsNothingTwice(t *testing.T) {
	s := newStack(t)
	answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) })
	s.answer.Store(&answer)
	added, err := s.db.AddPhotos(t.Context(), []string{s.source.URL, s.source.URL})
	require.NoError(t, err)
	first, second := added[0].UUID, added[1].UUID

	act := *s.act
	act.StartConcurrency = 1
	var failed atomic.Bool
	var again client.WorkflowRun
	act.StartInBatch = func(ctx context.Context, id, batch uuid.UUID) error {
		if id != second || failed.Swap(true) {
			return s.act.StartInBatch(ctx, id, batch)
		}
		_ = s.temporal.GetWorkflow(ctx, photo.WorkflowID(first), "").Get(ctx, nil) // its run has ended …
		again = s.process(t, first)
		_ = again.Get(ctx, nil) // … and so has another
		return temporal.NewApplicationError("Temporal is overloaded", "")
	}
	defer s.work(t, &act)()
	run, err := workflows.StartMany(t.Context(), s.temporal, "photo-processor", []uuid.UUID{first, second})
	require.NoError(t, err)
	require.NoError(t, run.Get(t.Context(), nil))
	require.True(t, failed.Load())

	_ = s.temporal.GetWorkflow(t.Context(), photo.WorkflowID(second), "").Get(t.Context(), nil)
	last, err := s.temporal.DescribeWorkflow(t.Context(), photo.WorkflowID(first), "")
	require.NoError(t, err)
	require.Equal(t, again.GetRunID(), last.WorkflowExecution.RunID)
	p, err := s.db.Photo(t.Context(), second)
	require.NoError(t, err)
	require.Equal(t, photo.Failed, p.Status)
}

func TestStartPhotosStartsAllInPages(t *testing.T) {
	b := setup(t)
	b.RegisterWorkflow(workflows.StartPhotos)
	ids := make([]uuid.UUID, 234)
	for i := range ids {
		ids[i] = uuid.New()
	}
	var mu sync.Mutex
	var started []uuid.UUID
	var pages []int
	b.OnActivity(act.StartPage, mock.Anything, mock.Anything).Return(func(ctx context.Context, in activities.StartPageInput) error {
		if activity.GetInfo(ctx).Attempt == 1 { // every page fails once
			return temporal.NewApplicationError("Temporal is overloaded", "")
		}
		if want := "default-test-taskqueue-starts"; activity.GetInfo(ctx).TaskQueue != want {
			return temporal.NewNonRetryableApplicationError("not on the queue "+want, "", nil)
		}
		mu.Lock()
		defer mu.Unlock()
		started = append(started, in.Photos...)
		pages = append(pages, len(in.Photos))
		return nil
	})
	b.ExecuteWorkflow(workflows.StartPhotos, workflows.StartPhotosInput{Photos: ids})
	require.True(t, b.IsWorkflowCompleted())
	require.NoError(t, b.GetWorkflowError())
	require.ElementsMatch(t, ids, started)
	require.ElementsMatch(t, []int{100, 100, 34}, pages)
}
