package activities

import (
	"context"
	"slices"
	"sync/atomic"

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
// idempotent: what an attempt has started, the next does not start again. Of a
// photo's last run Temporal knows whether it was this batch's; one that has been
// posted again since, and so has another last run, is in PostgreSQL.
func (a *Activities) StartPage(ctx context.Context, in StartPageInput) error {
	info := activity.GetInfo(ctx)
	batch := uuid.NewSHA1(uuid.Nil, []byte(info.WorkflowExecution.RunID))
	var before []uuid.UUID
	if info.Attempt > 1 {
		var err error
		if before, err = a.DB.StartedSince(ctx, in.Photos, info.ScheduledTime); err != nil {
			return err // which Temporal's policy retries
		}
	}
	var started atomic.Int64
	defer keepAlive(ctx, func() any { return map[string]int64{"started": started.Load()} })()

	group, startCtx := errgroup.WithContext(ctx)
	group.SetLimit(a.StartConcurrency)
	for _, id := range in.Photos {
		if startCtx.Err() != nil {
			break
		}
		if slices.Contains(before, id) {
			continue
		}
		group.Go(func() error {
			if a.ReserveRoom != nil {
				done, err := a.ReserveRoom(startCtx)
				if err != nil {
					return err
				}
				defer done()
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
