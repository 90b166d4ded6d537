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

const (
	// startPage is how many photos are started by one activity, by one worker, as
	// it has room for them: seconds of work, of which a worker that is lost loses
	// no more, and which at the end of a batch keep no other worker waiting long.
	startPage = 100
	// pagesAtOnce is how many pages of one batch are handed out at a time, each to
	// another worker. A batch that comes later begins no more than that behind.
	pagesAtOnce = 20
)

var startOptions = workflow.ActivityOptions{
	StartToCloseTimeout: time.Hour, // as long as it takes to process most of a page, from slow sources
	HeartbeatTimeout:    heartbeatTimeout,
	RetryPolicy:         &outlast,
	Priority:            priorityKeeping,
}

// StartsQueue is the task queue by which the workers that work on the other
// one get pages of photos to start. Each takes one page at a time, which spreads a
// batch over all of them.
func StartsQueue(taskQueue string) string { return taskQueue + "-starts" }

// StartPhotos starts the workflow of each photo, for a client who posted more
// than can be started while they wait.
func StartPhotos(ctx workflow.Context, in StartPhotosInput) error {
	options := startOptions
	options.TaskQueue = StartsQueue(workflow.GetInfo(ctx).TaskQueueName)
	started := 0
	tell := func() {
		workflow.SetCurrentDetails(ctx, fmt.Sprintf("started %d of %d", started, len(in.Photos)))
	}
	tell()
	slots := workflow.NewSemaphore(ctx, pagesAtOnce)
	pages := workflow.NewWaitGroup(ctx)
	var failed error
	for from := 0; from < len(in.Photos) && failed == nil; from += startPage {
		if err := slots.Acquire(ctx, 1); err != nil {
			failed = err
			break
		}
		page := in.Photos[from:min(from+startPage, len(in.Photos))]
		options.Summary = fmt.Sprintf("Start photos %d to %d", from+1, from+len(page))
		start := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), act.StartPage, activities.StartPageInput{Photos: page})
		pages.Add(1)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer pages.Done()
			defer slots.Release(1)
			if err := start.Get(ctx, nil); err != nil {
				failed = err
				return
			}
			started += len(page)
			tell()
		})
	}
	pages.Wait(ctx)
	return failed
}
