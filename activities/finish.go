package activities

import (
	"context"
	"errors"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// FinishInput says how a run ended.
type FinishInput struct {
	Run        photo.Run      `json:"run"`
	Thumbnails int            `json:"thumbnails"`        // how many MakeThumbnails has published
	Failure    *photo.Failure `json:"failure,omitempty"` // nil: the photo is completed
}

// Finish writes the photo's final status, and then removes the files that no row
// names. It is idempotent: the status is one UPDATE that only the owning run can
// make, once, and removing what is gone does nothing. It is not done before all
// is removed: an outage of the bucket is outlasted.
func (a *Activities) Finish(ctx context.Context, in FinishInput) error {
	ctx = about(ctx, in.Run, 0)
	return a.applicationError(ctx, a.finish(ctx, in))
}

func (a *Activities) finish(ctx context.Context, in FinishInput) error {
	first, err := a.DB.Finish(ctx, in.Run, in.Failure)
	if first {
		a.noteFinished(ctx, in.Failure)
	}
	if err != nil && !errors.Is(err, photo.ErrNotFound) { // of a photo that was deleted meanwhile, the files are left
		return err
	}
	if err == nil && in.Failure == nil {
		// Most often the photo has just the files it should have: one look at
		// the bucket is then all it costs.
		files, err := a.listThumbnails(ctx, in.Run.Photo)
		if err != nil || len(files) == in.Thumbnails {
			return err
		}
	}
	return a.sweep(ctx, in.Run.Photo)
}

// noteFinished counts and logs a photo's final status, once for each run.
func (a *Activities) noteFinished(ctx context.Context, failure *photo.Failure) {
	a.Metrics.countFinished(ctx, failure)
	if failure == nil {
		a.Log.InfoContext(ctx, "photo completed")
		return
	}
	a.Log.InfoContext(ctx, "photo failed", "code", failure.Code, "message", failure.Message)
}
