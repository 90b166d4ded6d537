// Package workflows tells the story of one photo, as Temporal executes it.
//
// Code here is replayed from histories, so it must decide the same each time:
// it imports nothing that reads clocks, files or the network, and a change of
// what it does needs workflow.GetVersion as long as older runs may be open.
// workflowcheck and the replay tests stand guard.
package workflows

import (
	"github.com/google/uuid"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/photo"
)

// ProcessPhotoInput says which photo to process.
type ProcessPhotoInput struct {
	Photo uuid.UUID `json:"photo"`
}

// act names the activities; it is never dereferenced here.
var act *activities.Activities

// ProcessPhoto makes a photo's thumbnails. The photo ends completed, or failed
// with the reason, and the workflow ends in the same way: Completed, Failed
// with an application error whose type is the failure's code, or Canceled.
func ProcessPhoto(ctx workflow.Context, in ProcessPhotoInput) (*activities.MakeThumbnailsResult, error) {
	run := activities.Step{Run: photo.Run{
		Photo:     in.Photo,
		ID:        workflow.GetInfo(ctx).WorkflowExecution.RunID,
		StartedAt: workflow.Now(ctx),
	}}
	var made activities.MakeThumbnailsResult
	err := executeStep(ctx, markProcessing, act.MarkProcessing, activities.MarkProcessingInput{Step: run}, nil)
	if err == nil {
		err = executeStep(ctx, fetchSource, act.FetchSource, activities.FetchSourceInput{Step: run}, nil)
	}
	if err == nil {
		err = executeStep(ctx, makeThumbnails, act.MakeThumbnails, activities.MakeThumbnailsInput{Step: run}, &made)
	}
	if writesNoStatus(err) {
		return nil, err
	}

	// The end is recorded even if the workflow has been cancelled. If that was after
	// the thumbnails were made, the photo is completed.
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	end := activities.FinishInput{Step: run, Thumbnails: len(made.Thumbnails), Failure: toFailure(err)}
	if err := executeStep(ctx, finish, act.Finish, end, nil); err != nil {
		return nil, err
	}
	switch failure := end.Failure; {
	case failure == nil:
		return &made, nil
	case failure.Code == photo.Canceled:
		return nil, temporal.NewCanceledError(failure.Message)
	default:
		return nil, temporal.NewNonRetryableApplicationError(failure.Message, failure.Code.ErrorType(), nil)
	}
}

// executeStep is the one rule by which every step runs: first as a local activity,
// which costs Temporal a fraction; if that does not succeed, as a regular activity of
// the same name, which Temporal retries in everyone's sight. Whether a failure ends
// the photo is decided by the activity, whose error is then non-retryable.
//
// Local activities run only in the workflow's first task. If there is a second task,
// something happened that a local activity cannot handle: a slow source, an outage, or a
// worker that crashed. If the photo is the reason, Temporal would hand out the task again
// without end; the lost workers of a regular activity are counted.
//
// A cancellation counts even if it meets an attempt that fails: Temporal does not retry
// the activity then.
func executeStep(ctx workflow.Context, s step, activity any, in stepInput, out any) error {
	workflow.SetCurrentDetails(ctx, s.summary)
	var failure *photo.Failure
	if workflow.GetInfo(ctx).GetCurrentHistoryLength() <= firstTaskStarted {
		err := workflow.ExecuteLocalActivity(workflow.WithLocalActivityOptions(ctx, s.localOptions()), activity, in).Get(ctx, out)
		if err == nil || isNonRetryable(err) {
			return err
		}
		failure = toLocalFailure(err)
	}
	err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, s.regularOptions()), activity, in.WithLocalFailure(failure)).Get(ctx, out)
	if err != nil && !isNonRetryable(err) && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// stepInput is the input of a step's activity.
type stepInput interface {
	WithLocalFailure(*photo.Failure) any
}

// firstTaskStarted is the id of the event with which the first workflow task starts,
// after WorkflowExecutionStarted and WorkflowTaskScheduled.
const firstTaskStarted = 3
