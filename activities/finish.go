package activities

import (
	"context"
	"errors"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// FinishInput says how a run ended.
type FinishInput struct {
	Run     photo.Run      `json:"run"`
	Failure *photo.Failure `json:"failure,omitempty"` // nil: the photo is completed
}

// Finish writes the photo's final status, and then removes what the run staged
// or left half-made. It is idempotent: the status is one UPDATE that only the
// owning run can make, once, and removing what is gone does nothing. It is not
// done before all is removed: an outage of the bucket is outlasted.
func (a *Activities) Finish(ctx context.Context, in FinishInput) error {
	return applicationError(ctx, a.finish(ctx, in.Run, in.Failure))
}

func (a *Activities) finish(ctx context.Context, run photo.Run, failure *photo.Failure) error {
	err := a.DB.Finish(ctx, run, failure)
	switch {
	case errors.Is(err, photo.ErrNotFound): // deleted meanwhile: its files are all that is left
		return a.sweep(ctx, run)
	case err != nil:
		return err
	case failure == nil: // MakeThumbnails has removed all but the originals
		return a.dropOriginals(ctx, run.Photo)
	default:
		return a.sweep(ctx, run)
	}
}
