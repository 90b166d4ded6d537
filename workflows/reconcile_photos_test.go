package workflows_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/workflows"
)

func page(checked int, last bool) *activities.ReconcilePageResult {
	return &activities.ReconcilePageResult{
		Reconciled: activities.Reconciled{Checked: checked, MarkedFailed: 1, Restarted: 2},
		Next:       activities.Cursor{UUID: uuid.New(), CreatedAt: time.Now().UTC()},
		Last:       last,
	}
}

func TestReconcilerPagesThroughAll(t *testing.T) {
	b := setup(t)
	b.RegisterWorkflow(workflows.ReconcilePhotos)
	first := page(200, false)
	b.OnActivity(activityNames.ReconcilePage, mock.Anything, activities.ReconcilePageInput{Limit: 200}).Return(nil,
		temporal.NewApplicationError("PostgreSQL cannot be reached", activities.DatabaseUnavailable)).Times(3)
	b.OnActivity(activityNames.ReconcilePage, mock.Anything, activities.ReconcilePageInput{Limit: 200}).Return(first, nil).Once()
	b.OnActivity(activityNames.ReconcilePage, mock.Anything, activities.ReconcilePageInput{After: first.Next, Limit: 200}).Return(page(7, true), nil).Once()
	b.ExecuteWorkflow(workflows.ReconcilePhotos, workflows.ReconcilePhotosInput{})
	var total activities.Reconciled
	require.NoError(t, b.GetWorkflowResult(&total))
	require.Equal(t, activities.Reconciled{Checked: 207, MarkedFailed: 2, Restarted: 4}, total)
}

func TestReconcilerContinuesAsNew(t *testing.T) {
	b := setup(t)
	b.RegisterWorkflow(workflows.ReconcilePhotos)
	b.OnActivity(activityNames.ReconcilePage, mock.Anything, mock.Anything).Return(page(200, false), nil).Times(20)
	b.ExecuteWorkflow(workflows.ReconcilePhotos, workflows.ReconcilePhotosInput{})
	_, ok := errors.AsType[*workflow.ContinueAsNewError](b.GetWorkflowError())
	require.True(t, ok, "the history stays bounded")
}
