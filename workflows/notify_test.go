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
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/workflows"
)

func receiverAway() error {
	return temporal.NewApplicationError("the receiver of webhooks answered 500", activities.WebhookFailed)
}

// TestNotifyIsALocalActivity checks that a healthy receiver costs no workflow of
// its own, and an unconfigured one nothing at all.
func TestNotifyIsALocalActivity(t *testing.T) {
	for name, result := range map[string]*activities.FinishResult{"configured": {Notify: true}, "not configured": nil} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			b.marks()
			b.fetches()
			b.onMake().Return(made, nil).Once()
			b.onFinish().Return(result, nil).Once()
			notified := 0
			if result != nil {
				b.OnActivity(activityNames.Notify, mock.Anything, mock.Anything).Return(func(ctx context.Context, in activities.NotifyInput) error {
					require.True(t, activity.GetInfo(ctx).IsLocalActivity)
					require.Equal(t, thePhoto, in.Run.Photo)
					notified++
					return nil
				})
			}
			b.ExecuteWorkflow(workflows.ProcessPhoto, workflows.ProcessPhotoInput{Photo: thePhoto})
			require.NoError(t, b.GetWorkflowError())
			require.Equal(t, result != nil, notified == 1)
		})
	}
}

// TestNotifyOfAReceiverThatIsAway checks that the photo's workflow ends, and
// another one goes on.
func TestNotifyOfAReceiverThatIsAway(t *testing.T) {
	b := setup(t)
	b.RegisterWorkflow(workflows.SendWebhook)
	b.marks()
	b.fetches()
	b.onMake().Return(nil, temporal.NewNonRetryableApplicationError("damaged", string(photo.CorruptImage), nil)).Once()
	b.onFinish().Return(&activities.FinishResult{Notify: true}, nil).Once()
	b.OnActivity(activityNames.Notify, mock.Anything, mock.Anything).Return(receiverAway()).Once()
	b.OnWorkflow(workflows.SendWebhook, mock.Anything, mock.Anything).Return(nil).Once()
	b.ExecuteWorkflow(workflows.ProcessPhoto, workflows.ProcessPhotoInput{Photo: thePhoto})
	require.ErrorContains(t, b.GetWorkflowError(), "damaged")
}

func TestSendWebhookRetries(t *testing.T) {
	b := setup(t)
	b.RegisterWorkflow(workflows.SendWebhook)
	in := activities.NotifyInput{Run: photo.Run{Photo: thePhoto, ID: "run"}}
	b.OnActivity(activityNames.Notify, mock.Anything, in).Return(receiverAway()).Times(9) // the test suite makes ten attempts at most
	b.OnActivity(activityNames.Notify, mock.Anything, in).Return(nil).Once()
	b.ExecuteWorkflow(workflows.SendWebhook, in)
	require.NoError(t, b.GetWorkflowError())
}

func TestNotifyBatchWaitsForTheEnd(t *testing.T) {
	b := setup(t)
	b.RegisterWorkflow(workflows.NotifyBatch)
	batch := uuid.New()
	b.OnActivity(activityNames.AwaitBatch, mock.Anything, mock.Anything).Return(temporal.NewApplicationError("1 of 2", activities.BatchNotDone)).Times(9)
	b.OnActivity(activityNames.AwaitBatch, mock.Anything, mock.Anything).Return(nil).Once()
	b.OnActivity(activityNames.Notify, mock.Anything, activities.NotifyInput{Batch: batch}).Return(nil).Once()
	b.ExecuteWorkflow(workflows.NotifyBatch, activities.AwaitBatchInput{Batch: batch})
	require.NoError(t, b.GetWorkflowError())
}

// TestFailureAttribute checks that only a failed photo has the search attribute,
// and only if the namespace has it.
func TestFailureAttribute(t *testing.T) {
	for name, result := range map[string]*activities.FinishResult{"of the namespace": {FailureAttribute: true}, "missing": nil} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			b.marks()
			b.onFetch().Return(nil, temporal.NewNonRetryableApplicationError("403", string(photo.SourceForbidden), nil)).Once()
			b.onFinish().Return(result, nil).Once()
			if result != nil {
				b.OnUpsertTypedSearchAttributes(temporal.NewSearchAttributes(workflows.FailureAttribute.ValueSet("source_forbidden"))).Return(nil).Once()
			}
			b.ExecuteWorkflow(workflows.ProcessPhoto, workflows.ProcessPhotoInput{Photo: thePhoto})
			require.ErrorContains(t, b.GetWorkflowError(), "403")
		})
	}
}
