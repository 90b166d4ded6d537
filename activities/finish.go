package activities

import (
	"context"
	"errors"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// FinishInput says how a run ended.
type FinishInput struct {
	Step
	Thumbnails int            `json:"thumbnails"`        // how many MakeThumbnails has published
	Failure    *photo.Failure `json:"failure,omitempty"` // nil: the photo is completed
}

// WithLocalFailure returns the input of the regular activity.
func (in FinishInput) WithLocalFailure(f *photo.Failure) any { in.LocalFailure = f; return in }

// Finish writes the photo's final status, and then removes the files that no row
// names, and the source from the cache. It is idempotent: the status is one UPDATE
// that a run can make once, unless a newer run has taken the photo, and removing
// what is gone does nothing. It is retried until all is removed, also through an
// outage of the bucket.
func (a *Activities) Finish(ctx context.Context, in FinishInput) error {
	a.Sources.Remove(sourceKey(in.Run))
	_, err := runStep(ctx, a, in.Step, func(ctx context.Context, _ *attempt) (any, error) {
		return nil, a.finish(ctx, in)
	})
	return err
}

func (a *Activities) finish(ctx context.Context, in FinishInput) error {
	first, err := a.DB.Finish(ctx, in.Run, in.Failure)
	if first {
		a.reportFinished(ctx, in.Failure)
	}
	if err != nil && !errors.Is(err, photo.ErrNotFound) { // of a photo that was deleted meanwhile, the files are left
		return err
	}
	if err == nil && in.Failure == nil {
		// Usually the photo has just the files it should have: that costs one
		// request to the bucket.
		files, err := a.listThumbnails(ctx, in.Run.Photo)
		if err != nil || len(files) == in.Thumbnails {
			return err
		}
	}
	return a.sweep(ctx, in.Run.Photo)
}

// reportFinished counts and logs a photo's final status, once for each run.
func (a *Activities) reportFinished(ctx context.Context, failure *photo.Failure) {
	a.Metrics.countFinished(ctx, failure)
	if failure == nil {
		a.Log.InfoContext(ctx, "photo completed")
		return
	}
	a.Log.InfoContext(ctx, "photo failed", "code", failure.Code, "message", failure.Message)
}
