package workflows

import (
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/photo"
)

// notifyFirst is the first attempt at a webhook. It occupies a workflow task slot.
// A receiver that has not answered in time counts as away for a while, so that
// its slowness delays few photos.
var notifyFirst = step{activity: activityNames.Notify, summary: notifyOptions.Summary, localTimeout: 3 * time.Second}

// notifyOptions retry a webhook for a day: after 10, 20, 40 … seconds, then every
// 10 minutes. A request takes at most WEBHOOK_TIMEOUT.
var notifyOptions = workflow.ActivityOptions{
	ScheduleToCloseTimeout: 24 * time.Hour,
	StartToCloseTimeout:    6 * time.Minute,
	RetryPolicy:            &temporal.RetryPolicy{InitialInterval: 10 * time.Second, BackoffCoefficient: 2, MaximumInterval: 10 * time.Minute},
	Priority:               PriorityBatch,
	Summary:                "Post a webhook",
}

// notify posts the end of the run as a webhook. Like a step, it first tries a
// local activity. The regular activity, with its retries, is in a workflow of
// its own, SendWebhook: otherwise a receiver that is away would keep this
// workflow open, and a photo that is posted again would not be processed.
func notify(ctx workflow.Context, run photo.Run) error {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	in := activities.NotifyInput{Run: run}
	if isFirstTask(ctx) && executeLocal(ctx, notifyFirst, in, nil) == nil {
		return nil
	}
	return startAbandoned(ctx, "webhook-"+run.ID, "Webhook of photo "+run.Photo.String(), SendWebhook, in)
}

// startAbandoned starts a child workflow that continues after this one has
// ended. If a workflow with the ID is running, it does nothing.
func startAbandoned(ctx workflow.Context, id, summary string, child, in any) error {
	ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID: id, ParentClosePolicy: enumspb.PARENT_CLOSE_POLICY_ABANDON, StaticSummary: summary, Priority: PriorityBatch,
	})
	err := workflow.ExecuteChildWorkflow(ctx, child, in).GetChildWorkflowExecution().Get(ctx, nil)
	if temporal.IsWorkflowExecutionAlreadyStartedError(err) {
		return nil
	}
	return err
}

// SendWebhook posts the end of a run, or of a batch, and retries that for a day.
func SendWebhook(ctx workflow.Context, in activities.NotifyInput) error {
	return execute(ctx, notifyOptions, activityNames.Notify, in, nil)
}

// awaitBatchOptions retry without end; AwaitBatch sets the delays.
var awaitBatchOptions = workflow.ActivityOptions{
	StartToCloseTimeout: time.Minute,
	RetryPolicy:         &retryPolicy,
	Priority:            PriorityFirst,
	Summary:             "Wait until the batch is done",
}

// NotifyBatch waits until a batch is done, and then posts that as a webhook.
func NotifyBatch(ctx workflow.Context, in activities.AwaitBatchInput) error {
	if err := execute(ctx, awaitBatchOptions, activityNames.AwaitBatch, in, nil); err != nil {
		return err
	}
	return execute(ctx, notifyOptions, activityNames.Notify, activities.NotifyInput{Batch: in.Batch}, nil)
}
