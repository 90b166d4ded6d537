package workflows_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/workflows"
)

// TestAPageThatIsRepeatedStartsNothingTwice has a page fail when it has started
// one of three photos, and that attempt, which goes on, start the last while the
// next is at the second. Both are posted again and processed before the page
// comes to them: photos that exist, or do not, of which only Temporal knows.
func TestAPageThatIsRepeatedStartsNothingTwice(t *testing.T) {
	for _, exist := range []bool{true, false} {
		t.Run(fmt.Sprintf("photos exist=%t", exist), func(t *testing.T) {
			s := newStack(t)
			answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) })
			s.answer.Store(&answer)
			page := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
			if exist {
				added, err := s.db.AddPhotos(t.Context(), []string{s.source.URL, s.source.URL, s.source.URL})
				require.NoError(t, err)
				for i, p := range added {
					page[i] = p.UUID
				}
			}
			first, second, last := page[0], page[1], page[2]

			act := *s.act
			act.StartConcurrency = 1
			lastRun := map[uuid.UUID]string{}
			again := func(ctx context.Context, id uuid.UUID) {
				_ = s.temporal.GetWorkflow(ctx, photo.WorkflowID(id), "").Get(ctx, nil) // its run has ended …
				run := s.process(t, id)
				_ = run.Get(ctx, nil) // … and so has another
				lastRun[id] = run.GetRunID()
			}
			act.StartInBatch = func(ctx context.Context, id, batch uuid.UUID) error {
				switch attempt := activity.GetInfo(ctx).Attempt; {
				case id == second && attempt == 1:
					again(ctx, first)
					return temporal.NewApplicationError("Temporal is overloaded", "")
				case id == second:
					if err := s.act.StartInBatch(ctx, last, batch); err != nil {
						return err
					}
					again(ctx, last)
				}
				return s.act.StartInBatch(ctx, id, batch)
			}
			defer s.work(t, &act)()
			run, err := workflows.StartMany(t.Context(), s.temporal, "photo-processor", page)
			require.NoError(t, err)
			require.NoError(t, run.Get(t.Context(), nil))

			require.Len(t, lastRun, 2)
			for id, want := range lastRun {
				described, err := s.temporal.DescribeWorkflow(t.Context(), photo.WorkflowID(id), "")
				require.NoError(t, err)
				require.Equal(t, want, described.WorkflowExecution.RunID)
			}
			require.Error(t, s.temporal.GetWorkflow(t.Context(), photo.WorkflowID(second), "").Get(t.Context(), nil))
			if exist {
				p, err := s.db.Photo(t.Context(), second)
				require.NoError(t, err)
				require.Equal(t, photo.Failed, p.Status)
			}
		})
	}
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
