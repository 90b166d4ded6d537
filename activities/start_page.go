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
	Started int64 `json:"started"` // number of the page's photos, from the first
}

// StartPage starts the workflows of a page of photos, StartConcurrency at a
// time. A retry continues after the photos of the last heartbeat. Photos that a
// lost worker started after that heartbeat are started again. This has no
// effect while their workflow runs, and processes a photo again that has
// finished, to the same result.
func (a *Activities) StartPage(ctx context.Context, in StartPageInput) error {
	var before StartPageProgress
	a.readHeartbeat(ctx, &before)
	var started atomic.Int64
	started.Store(before.Started)
	progress := func() any { return StartPageProgress{started.Load()} }
	defer sendHeartbeats(ctx, progress)()
	for int(started.Load()) < len(in.Photos) {
		from := int(started.Load())
		next := in.Photos[from:min(from+a.StartConcurrency, len(in.Photos))]
		group, groupCtx := errgroup.WithContext(ctx)
		for _, id := range next {
			group.Go(func() error { return a.StartBatchPhoto(groupCtx, id) })
		}
		if err := group.Wait(); err != nil {
			reportProgress(ctx, progress())
			if ctx.Err() != nil {
				return contextError(ctx)
			}
			return err // of the Temporal client; the retry policy applies
		}
		started.Add(int64(len(next)))
	}
	return nil
}
