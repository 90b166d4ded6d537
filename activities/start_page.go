package activities

import (
	"context"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// StartPageInput says which photos to start.
type StartPageInput struct {
	Photos photo.IDs `json:"photos"`
}

// StartPageProgress is the heartbeat details of StartPage.
type StartPageProgress struct {
	Started int64 `json:"started"` // of the page's photos, from its beginning
}

// StartPage starts the workflows of a page of photos, StartConcurrency at a time.
// It is idempotent as far as it matters: a photo whose workflow is running gets no
// second one. A retry continues from the last heartbeat. Photos that a lost worker
// started after that heartbeat are started again; one that has been finished meanwhile is
// then processed twice.
func (a *Activities) StartPage(ctx context.Context, in StartPageInput) error {
	var before StartPageProgress
	a.readHeartbeat(ctx, &before)
	var started atomic.Int64
	started.Store(before.Started)
	progress := func() any { return StartPageProgress{started.Load()} }
	defer sendHeartbeats(ctx, progress)()
	for int(started.Load()) < len(in.Photos) {
		from := int(started.Load())
		few := in.Photos[from:min(from+a.StartConcurrency, len(in.Photos))]
		group, groupCtx := errgroup.WithContext(ctx)
		for _, id := range few {
			group.Go(func() error { return a.StartInBatch(groupCtx, id) })
		}
		if err := group.Wait(); err != nil {
			reportProgress(ctx, progress())
			return err // Temporal's own, retried by the policy
		}
		started.Add(int64(len(few)))
	}
	return nil
}
