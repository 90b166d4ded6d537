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

// photosPerPage is the number of photos that one activity starts. They take
// about a second, which bounds the work that is repeated after a lost worker.
const photosPerPage = 200

var startPageOptions = workflow.ActivityOptions{
	StartToCloseTimeout: 10 * time.Minute,
	HeartbeatTimeout:    heartbeatTimeout,
	RetryPolicy:         &retryPolicy,
	Priority:            PriorityFirst,
}

// StartPhotos starts the workflows of a request's photos, page by page. A
// request with more than START_DIRECTLY photos uses it, because its client
// would have to wait too long.
func StartPhotos(ctx workflow.Context, in StartPhotosInput) error {
	for from := 0; from < len(in.Photos); from += photosPerPage {
		workflow.SetCurrentDetails(ctx, fmt.Sprintf("started %d of %d", from, len(in.Photos)))
		page := in.Photos[from:min(from+photosPerPage, len(in.Photos))]
		options := startPageOptions
		options.Summary = fmt.Sprintf("Start photos %d to %d", from+1, from+len(page))
		err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), activityNames.StartPage, activities.StartPageInput{Photos: page}).Get(ctx, nil)
		if err != nil {
			return err
		}
	}
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("started %d of %d", len(in.Photos), len(in.Photos)))
	return nil
}
