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

// startPage is how many photos are started by one activity. Some thousand are
// seconds of work, and that much is repeated when a worker is lost.
const startPage = 1000

var startOptions = workflow.ActivityOptions{
	StartToCloseTimeout: 15 * time.Minute, // for a server that is overloaded
	HeartbeatTimeout:    heartbeatTimeout,
	RetryPolicy:         &outlast,
	Priority:            priorityKeeping,
}

// StartPhotos starts the workflow of each photo, for a client who posted more
// than can be started while they wait.
func StartPhotos(ctx workflow.Context, in StartPhotosInput) error {
	for from := 0; from < len(in.Photos); from += startPage {
		to := min(from+startPage, len(in.Photos))
		workflow.SetCurrentDetails(ctx, fmt.Sprintf("started %d of %d", from, len(in.Photos)))
		options := startOptions
		options.Summary = fmt.Sprintf("Start photos %d to %d", from+1, to)
		page := activities.StartPageInput{Photos: in.Photos[from:to]}
		if err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), act.StartPage, page).Get(ctx, nil); err != nil {
			return err
		}
	}
	workflow.SetCurrentDetails(ctx, "started all")
	return nil
}
