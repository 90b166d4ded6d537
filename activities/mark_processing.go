package activities

import (
	"context"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// MarkProcessingInput says which run takes its photo.
type MarkProcessingInput struct{ Step }

// WithLocalFailure returns the input of the regular activity.
func (in MarkProcessingInput) WithLocalFailure(f *photo.Failure) any { in.LocalFailure = f; return in }

// MarkProcessing makes the run the photo's owner, and its status processing. It is
// idempotent: one UPDATE that only the same or a newer run can make. A photo that
// does not exist is a failure at once.
func (a *Activities) MarkProcessing(ctx context.Context, in MarkProcessingInput) error {
	_, err := runStep(ctx, a, in.Step, func(ctx context.Context, _ *attempt) (any, error) {
		return nil, a.DB.MarkProcessing(ctx, in.Run)
	})
	return err
}
