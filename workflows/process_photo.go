// Package workflows tells the story of one photo, as Temporal executes it.
//
// Code here is replayed from histories, so it must decide the same each time:
// it imports nothing that reads clocks, files or the network, and a change of
// what it does needs workflow.GetVersion as long as older runs may be open.
// workflowcheck and the replay tests stand guard.
package workflows

import (
	"fmt"

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
	run := photo.Run{
		Photo:     in.Photo,
		ID:        workflow.GetInfo(ctx).WorkflowExecution.RunID,
		StartedAt: workflow.Now(ctx),
	}

	result, err := makeThumbnails(ctx, run)
	if leavesPhotoAlone(err) {
		return nil, err
	}

	// The end must be recorded even if the workflow has been cancelled; and
	// when the thumbnails were made before that, the photo is completed.
	failure := asFailure(err)
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	workflow.SetCurrentDetails(ctx, "recording the final status")
	finish := activities.FinishInput{Run: run, Failure: failure}
	if result != nil {
		finish.Thumbnails = len(result.Thumbnails)
	}
	if err := executeShort(ctx, "Record the final status", act.Finish, finish, nil); err != nil {
		return nil, err
	}
	switch {
	case failure == nil:
		workflow.SetCurrentDetails(ctx, "completed")
		return result, nil
	case failure.Code == photo.Canceled:
		workflow.SetCurrentDetails(ctx, "canceled")
		return nil, temporal.NewCanceledError(failure.Message)
	default:
		workflow.SetCurrentDetails(ctx, "failed: "+failure.Message)
		return nil, temporal.NewNonRetryableApplicationError(failure.Message, failure.Code.ErrorType(), nil)
	}
}

// makeThumbnails takes the photo through the steps that can fail.
func makeThumbnails(ctx workflow.Context, run photo.Run) (made *activities.MakeThumbnailsResult, err error) {
	workflow.SetCurrentDetails(ctx, "taking the photo")
	mark := activities.MarkProcessingInput{Run: run}
	var marked activities.MarkProcessingResult
	if err := executeShort(ctx, "Mark the photo as processing", act.MarkProcessing, mark, &marked); err != nil {
		return nil, err
	}
	err = attempt(ctx, "making thumbnails", func(ctx workflow.Context, attempt int) error {
		summary := withAttempt("Fetch the source from the photo's URL and make thumbnails of it", attempt)
		in := activities.MakeThumbnailsInput{Run: run, Attempt: attempt}
		if attempt == 1 && !marked.Again {
			handOver, err := executeFirst(ctx, summary, act.MakeThumbnails, in, &made)
			if !handOver {
				return err
			}
			in.Outage = isOutage(err)
		}
		return execute(ctx, makeOptions, summary, act.MakeThumbnails, in, &made)
	})
	return made, err
}

// leavesPhotoAlone is true for the errors after which there is no status to
// write: the photo does not exist, or a newer run has it.
func leavesPhotoAlone(err error) bool {
	return isType(err, photo.NotFound.ErrorType()) || isType(err, activities.Superseded)
}

func withAttempt(summary string, attempt int) string {
	if attempt == 1 {
		return summary
	}
	return fmt.Sprintf("%s (attempt %d)", summary, attempt)
}
