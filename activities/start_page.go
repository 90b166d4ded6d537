package activities

import (
	"context"
	"sync/atomic"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
)

// StartPageInput says which photos to start.
type StartPageInput struct {
	Photos photo.IDs `json:"photos"`
	Batch  uuid.UUID `json:"batch,omitzero"` // of the photos; zero for none
}

// StartPageProgress is the heartbeat details of StartPage.
type StartPageProgress struct {
	Started int64 `json:"started"` // number of the page's photos, from the first
}

// StartPage starts the workflows of a page of photos, StartConcurrency at a
// time. A retry continues after the photos of the last heartbeat. Photos that a
// lost worker started after that heartbeat are started again. This has no
// effect while their workflow runs, and processes a photo again that has
// finished, to the same result. The outcomes of workflows that were running
// count for the batch.
func (a *Activities) StartPage(ctx context.Context, in StartPageInput) error {
	var before StartPageProgress
	a.readHeartbeat(ctx, &before)
	var joined atomic.Int64 // photos that are started, and whose runs the batch has joined
	joined.Store(before.Started)
	progress := func() any { return StartPageProgress{joined.Load()} }
	defer sendHeartbeats(ctx, progress)()
	var started []postgres.BatchPhoto // that are not joined
	join := func() error {
		if in.Batch != uuid.Nil {
			if err := a.DB.JoinRuns(ctx, in.Batch, started); err != nil {
				return a.retryableError(ctx, err)
			}
		}
		joined.Add(int64(len(started)))
		started = nil
		return nil
	}
	for from := int(joined.Load()); from < len(in.Photos); {
		next := in.Photos[from:min(from+a.StartConcurrency, len(in.Photos))]
		runs := make([]postgres.BatchPhoto, len(next))
		group, groupCtx := errgroup.WithContext(ctx)
		for i, id := range next {
			group.Go(func() error {
				run, err := a.StartBatchPhoto(groupCtx, id)
				runs[i] = postgres.BatchPhoto{Photo: id, Run: run}
				return err
			})
		}
		if err := group.Wait(); err != nil {
			if joinErr := join(); joinErr != nil && ctx.Err() == nil {
				return joinErr
			}
			reportProgress(ctx, progress())
			if ctx.Err() != nil {
				return contextError(ctx)
			}
			return err // of the Temporal client; the retry policy applies
		}
		from += len(next)
		started = append(started, runs...)
		if len(started) >= photosPerJoin || from == len(in.Photos) {
			if err := join(); err != nil {
				return err
			}
		}
	}
	return nil
}

// photosPerJoin is the number of photos in one JoinRuns statement, and the
// granularity of the progress in heartbeats.
const photosPerJoin = 50
