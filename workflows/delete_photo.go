package workflows

import (
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/photo-processor/photo-processor/activities"
)

// deleteOptions retry each step of a deletion without end.
var deleteOptions = workflow.ActivityOptions{
	StartToCloseTimeout: 5 * time.Minute,
	RetryPolicy:         &retryPolicy,
	Priority:            PriorityFirst,
}

// DeletePhoto deletes a photo: first its rows, after which no run owns the photo
// and none can record a thumbnail; then it cancels the run, waits until that is
// closed, and deletes the files.
func DeletePhoto(ctx workflow.Context, in activities.DeletePhotoInput) error {
	for _, step := range []struct {
		activity any
		summary  string
	}{
		{activityNames.DeleteRows, "Delete the photo's rows"},
		{activityNames.StopRun, "Cancel the photo's run, and wait for its end"},
		{activityNames.DeleteFiles, "Delete the photo's files"},
	} {
		options := deleteOptions
		options.Summary = step.summary
		workflow.SetCurrentDetails(ctx, step.summary)
		if err := execute(ctx, options, step.activity, in, nil); err != nil {
			return err
		}
	}
	return nil
}
