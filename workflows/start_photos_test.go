package workflows_test

import (
	"context"
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
	ids := make([]uuid.UUID, 434)
	for i := range ids {
		ids[i] = uuid.New()
	}
	var started []uuid.UUID
	var pages []int
	b.OnActivity(activityNames.StartPage, mock.Anything, mock.Anything).Return(func(ctx context.Context, in activities.StartPageInput) error {
		if activity.GetInfo(ctx).Attempt == 1 { // every page fails once
			return temporal.NewApplicationError("Temporal is overloaded", "")
		}
		started = append(started, in.Photos...)
		pages = append(pages, len(in.Photos))
		return nil
	})
	b.ExecuteWorkflow(workflows.StartPhotos, workflows.StartPhotosInput{Photos: ids})
	require.True(t, b.IsWorkflowCompleted())
	require.NoError(t, b.GetWorkflowError())
	require.Equal(t, ids, started)
	require.Equal(t, []int{200, 200, 34}, pages)
}

func TestDeletePhotoRetriesEachStep(t *testing.T) {
	b := setup(t)
	b.RegisterWorkflow(workflows.DeletePhoto)
	in := activities.DeletePhotoInput{Photo: thePhoto}
	var order []string
	for name, step := range map[string]any{"rows": activityNames.DeleteRows, "run": activityNames.StopRun, "files": activityNames.DeleteFiles} {
		b.OnActivity(step, mock.Anything, in).Return(func(ctx context.Context, _ activities.DeletePhotoInput) error {
			if activity.GetInfo(ctx).Attempt < 9 {
				return temporal.NewApplicationError("away", "")
			}
			order = append(order, name)
			return nil
		})
	}
	b.ExecuteWorkflow(workflows.DeletePhoto, in)
	require.NoError(t, b.GetWorkflowError())
	require.Equal(t, []string{"rows", "run", "files"}, order)
}
