package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/photo"
)

// StartPhotosInput says which photos to start.
type StartPhotosInput struct {
	Photos photo.IDs `json:"photos"`
}

// photosPerPage is how many photos one activity starts: a second of work, which is
// what a lost worker may repeat.
const photosPerPage = 200

var startPageOptions = workflow.ActivityOptions{
	StartToCloseTimeout: 10 * time.Minute,
	HeartbeatTimeout:    heartbeatTimeout,
	RetryPolicy:         &retryPolicy,
	Priority:            PriorityFirst,
}

// StartPhotos starts the workflow of each photo of a request with more than can be
// started while its client waits, page by page.
func StartPhotos(ctx workflow.Context, in StartPhotosInput) error {
	for from := 0; from < len(in.Photos); from += photosPerPage {
		workflow.SetCurrentDetails(ctx, fmt.Sprintf("started %d of %d", from, len(in.Photos)))
		page := in.Photos[from:min(from+photosPerPage, len(in.Photos))]
		options := startPageOptions
		options.Summary = fmt.Sprintf("Start photos %d to %d", from+1, from+len(page))
		err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), act.StartPage, activities.StartPageInput{Photos: page}).Get(ctx, nil)
		if err != nil {
			return err
		}
	}
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("started %d of %d", len(in.Photos), len(in.Photos)))
	return nil
}
