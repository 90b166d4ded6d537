package workflows

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/workflow"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/photo"
)

// StartPhotosInput says which photos to start.
type StartPhotosInput struct {
	Photos photo.IDs `json:"photos"`
	// Batch is the batch to which the photos belong. Runs from before batches
	// have none.
	Batch uuid.UUID `json:"batch,omitzero"`
}

// photosPerPage is the number of photos that one activity starts. That takes
// from one to six seconds, and bounds the work that is repeated after a lost
// worker, and the time until a cancellation takes effect.
const photosPerPage = 200

var startPageOptions = workflow.ActivityOptions{
	StartToCloseTimeout: 10 * time.Minute,
	HeartbeatTimeout:    heartbeatTimeout,
	RetryPolicy:         &retryPolicy,
	Priority:            PriorityFirst,
}

// batchOptions are for the activities that read and write a batch, each with one
// statement.
var batchOptions = workflow.ActivityOptions{
	StartToCloseTimeout: time.Minute,
	RetryPolicy:         &retryPolicy,
	Priority:            PriorityFirst,
}

// StartPhotos starts the workflows of a request's photos, page by page. A
// request with more than START_DIRECTLY photos uses it, because its client
// would have to wait too long. After a cancellation it starts no further page.
func StartPhotos(ctx workflow.Context, in StartPhotosInput) error {
	pages := ctx
	if in.Batch != uuid.Nil {
		pages, _ = workflow.NewDisconnectedContext(ctx) // a page is not canceled half-way
		if err := execute(pages, batchOptions, activityNames.CreateBatch, activities.CreateBatchInput{Batch: in.Batch, Photos: in.Photos}, nil); err != nil {
			return err
		}
	}
	for from := 0; from < len(in.Photos); from += photosPerPage {
		if in.Batch != uuid.Nil && ctx.Err() != nil {
			return cancelBatch(ctx, activities.EndBatchInput{Batch: in.Batch, NotStarted: in.Photos[from:]})
		}
		workflow.SetCurrentDetails(ctx, fmt.Sprintf("started %d of %d", from, len(in.Photos)))
		page := in.Photos[from:min(from+photosPerPage, len(in.Photos))]
		if err := startPage(pages, in.Batch, from, page); err != nil {
			return err
		}
	}
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("started %d of %d", len(in.Photos), len(in.Photos)))
	if in.Batch == uuid.Nil {
		return nil
	}
	return endBatch(pages, activities.EndBatchInput{Batch: in.Batch})
}

// startPage starts the workflows of a page of photos, before which the workflow
// has started others.
func startPage(ctx workflow.Context, batch uuid.UUID, others int, page photo.IDs) error {
	options := startPageOptions
	options.Summary = fmt.Sprintf("Start photos %d to %d", others+1, others+len(page))
	return execute(ctx, options, activityNames.StartPage, activities.StartPageInput{Batch: batch, Photos: page}, nil)
}

// cancelBatch ends the batch of a canceled workflow, and returns the workflow's
// error.
func cancelBatch(ctx workflow.Context, in activities.EndBatchInput) error {
	in.Canceled = true
	disconnected, _ := workflow.NewDisconnectedContext(ctx)
	if err := endBatch(disconnected, in); err != nil {
		return err
	}
	return ctx.Err()
}

// endBatch ends a batch, and has its end posted as a webhook if one is
// configured.
func endBatch(ctx workflow.Context, in activities.EndBatchInput) error {
	var next *activities.EndBatchResult
	if err := execute(ctx, batchOptions, activityNames.EndBatch, in, &next); err != nil || next == nil || !next.Notify {
		return err
	}
	return startAbandoned(ctx, BatchWebhookID(in.Batch), "Webhook of batch "+in.Batch.String(), NotifyBatch, activities.AwaitBatchInput{Batch: in.Batch})
}

// BatchWebhookID returns the ID of the NotifyBatch workflow of a batch.
func BatchWebhookID(batch uuid.UUID) string { return "webhook-batch-" + batch.String() }

func execute(ctx workflow.Context, options workflow.ActivityOptions, activity, in, out any) error {
	return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), activity, in).Get(ctx, out)
}
