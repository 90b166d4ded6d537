package activities

import (
	"context"

	"go.temporal.io/sdk/activity"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// MarkProcessingInput names the run that takes ownership of its photo.
type MarkProcessingInput struct{ StepInput }

// WithLocalFailure returns the input of the regular activity.
func (in MarkProcessingInput) WithLocalFailure(f *photo.Failure) any { in.LocalFailure = f; return in }

// MarkProcessing makes the run the photo's owner, and the photo's status
// processing. It is idempotent: it is one UPDATE, which applies only if the run
// is the owner or newer than the owner. A photo that does not exist is a
// permanent failure.
func (a *Activities) MarkProcessing(ctx context.Context, in MarkProcessingInput) error {
	_, err := runStep(ctx, a, in.StepInput, func(ctx context.Context, _ *attempt) (any, error) {
		remarked, err := a.DB.MarkProcessing(ctx, in.Run)
		if remarked && activity.GetInfo(ctx).IsLocalActivity {
			a.logTakeover(ctx, 1) // in its first workflow task
		}
		return nil, err
	})
	return err
}
