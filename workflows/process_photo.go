// Package workflows has the workflows:
//
//	ProcessPhoto     makes the thumbnails of one photo and records its final status
//	StartPhotos      starts ProcessPhoto for each photo of a large request
//	StartSelected    starts ProcessPhoto for each photo that a request selects
//	DeletePhoto      deletes one photo
//	ReconcilePhotos  repairs photos that are processing without an open run
//	SendWebhook      retries the webhook of a photo
//	NotifyBatch      posts the webhook of a batch when that is done
//
// Temporal replays this code from histories, so the code must be deterministic:
// it imports nothing that reads clocks, files or the network. A changed
// decision needs workflow.GetVersion for as long as older runs may be open.
// workflowcheck and the replay tests enforce both.
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

// ProcessPhoto makes a photo's thumbnails and records its final status,
// completed or failed. The workflow ends in the same way: Completed, Failed
// with an application error whose type is the failure's code, or Canceled.
func ProcessPhoto(ctx workflow.Context, in ProcessPhotoInput) (*activities.MakeThumbnailsResult, error) {
	run := photo.Run{
		Photo:     in.Photo,
		ID:        workflow.GetInfo(ctx).WorkflowExecution.RunID,
		StartedAt: workflow.Now(ctx),
	}
	result, err := fetchAndRender(ctx, run)
	if isNotOwner(err) { // so it may not write a status
		return nil, err
	}
	failure := toFailure(err)
	next, err := recordStatus(ctx, run, result, failure)
	if err != nil {
		return nil, err
	}
	if next.FailureAttribute {
		if err := workflow.UpsertTypedSearchAttributes(ctx, FailureAttribute.ValueSet(string(failure.Code))); err != nil {
			return nil, err
		}
	}
	if next.Notify {
		if err := notify(ctx, run); err != nil {
			return nil, err
		}
	}
	switch {
	case failure == nil:
		return result, nil
	case failure.Code == photo.Canceled:
		return nil, temporal.NewCanceledError(failure.Message)
	default:
		return nil, temporal.NewNonRetryableApplicationError(failure.Message, failure.Code.ErrorType(), nil)
	}
}

// fetchAndRender runs the first three steps: the run takes ownership of the
// photo, fetches its source, and makes the thumbnails.
func fetchAndRender(ctx workflow.Context, run photo.Run) (*activities.MakeThumbnailsResult, error) {
	in := activities.StepInput{Run: run}
	if err := executeStep(ctx, markProcessing, activities.MarkProcessingInput{StepInput: in}, nil); err != nil {
		return nil, err
	}
	if err := executeStep(ctx, fetchSource, activities.FetchSourceInput{StepInput: in}, nil); err != nil {
		return nil, err
	}
	var result activities.MakeThumbnailsResult
	if err := executeStep(ctx, makeThumbnails, activities.MakeThumbnailsInput{StepInput: in}, &result); err != nil {
		return nil, err
	}
	return &result, nil
}

// recordStatus runs the last step. Its context is disconnected, so that a
// canceled workflow records a status, too. A cancellation that arrives after
// the thumbnails were made does not fail the photo.
func recordStatus(ctx workflow.Context, run photo.Run, result *activities.MakeThumbnailsResult, failure *photo.Failure) (next activities.FinishResult, err error) {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	in := activities.FinishInput{StepInput: activities.StepInput{Run: run}, Failure: failure}
	if failure == nil {
		in.Thumbnails = len(result.Thumbnails)
	}
	var out *activities.FinishResult
	if err := executeStep(ctx, finish, in, &out); err != nil || out == nil {
		return next, err
	}
	return *out, nil
}

// FailureAttribute is the search attribute of the workflows of photos that have
// failed: the failure's code. A namespace may lack it.
var FailureAttribute = temporal.NewSearchAttributeKeyKeyword("PhotoFailure")

// executeStep runs a step. The step first runs as a local activity, which costs
// Temporal a fraction of a regular one. Its success and a non-retryable error
// are final. After any other error, the step runs as a regular activity of the
// same name, whose retries Temporal makes and shows. The activity decides
// whether a failure is permanent, and then returns a non-retryable error.
//
// Only the first workflow task runs local activities. A later task follows a
// slow source, an outage or a worker crash, none of which a local activity can
// handle. Temporal would reschedule a task whose photo crashes the worker
// without limit, whereas the lost workers of a regular activity are counted.
//
// A cancellation that arrives during a retryable failure ends the step as
// canceled, because Temporal does not retry the activity after it.
func executeStep(ctx workflow.Context, s step, in activityInput, out any) error {
	workflow.SetCurrentDetails(ctx, s.summary)
	var localFailure *photo.Failure
	if isFirstTask(ctx) {
		err := executeLocal(ctx, s, in, out)
		if err == nil || isNonRetryable(err) {
			return err
		}
		localFailure = toLocalFailure(err)
	}
	err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, s.regularOptions()), s.activity, in.WithLocalFailure(localFailure)).Get(ctx, out)
	if err != nil && !isNonRetryable(err) && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// activityInput is the input of a step's activity.
type activityInput interface {
	// WithLocalFailure returns the input of the regular activity, which reports
	// the failure of the local one; nil if that was no failure of the photo.
	WithLocalFailure(*photo.Failure) any
}

func executeLocal(ctx workflow.Context, s step, in, out any) error {
	return workflow.ExecuteLocalActivity(workflow.WithLocalActivityOptions(ctx, s.localOptions()), s.activity, in).Get(ctx, out)
}

func isFirstTask(ctx workflow.Context) bool {
	return workflow.GetInfo(ctx).GetCurrentHistoryLength() <= firstTaskStartedEventID
}

// firstTaskStartedEventID is the ID of the event that starts the first workflow
// task. The events before it are WorkflowExecutionStarted and
// WorkflowTaskScheduled.
const firstTaskStartedEventID = 3
