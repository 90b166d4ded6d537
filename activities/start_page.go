package activities

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/activity"
	"golang.org/x/sync/errgroup"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// StartPageInput says which photos to start.
type StartPageInput struct {
	Photos photo.IDs `json:"photos"`
}

// StartPage starts the workflows of the photos, as fast as this worker has room
// for them: then each comes with its first task, and Temporal's queue, the
// dearest way to a worker, remains to those whom somebody waits for. It is
// idempotent: what an attempt has started, the next does not start again, even if
// the photo has been posted again since, and processed.
func (a *Activities) StartPage(ctx context.Context, in StartPageInput) error {
	info := activity.GetInfo(ctx)
	batch := uuid.NewSHA1(uuid.Nil, []byte(info.WorkflowExecution.RunID))
	var started atomic.Int64
	defer keepAlive(ctx, func() any { return map[string]int64{"started": started.Load()} })()

	group, startCtx := errgroup.WithContext(ctx)
	group.SetLimit(a.StartConcurrency)
	for _, id := range in.Photos {
		if startCtx.Err() != nil {
			break
		}
		group.Go(func() error {
			if a.ReserveRoom != nil {
				done, err := a.ReserveRoom(startCtx)
				if err != nil {
					return err
				}
				defer done()
			}
			if info.Attempt > 1 {
				// Looked at last, because the attempt before may still be at work.
				before, err := a.startedSince(startCtx, id, info.ScheduledTime)
				if err != nil || before {
					return err
				}
			}
			err := a.StartInBatch(startCtx, id, batch)
			if err == nil {
				started.Add(1)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err // of Temporal's own, which its policy retries
	}
	return ctx.Err() // perhaps the rest was left
}

// startedSince tells whether a run of the photo began at the time or later. Of the
// newest, Temporal also knows by itself whose it is; see workflows.RequestIDs.
func (a *Activities) startedSince(ctx context.Context, id uuid.UUID, since time.Time) (bool, error) {
	info, err := a.describe(ctx, id, "")
	return info != nil && !info.GetStartTime().AsTime().Before(since), err
}
