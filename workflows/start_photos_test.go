package workflows_test

import (
	"context"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/workflows"
)

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
