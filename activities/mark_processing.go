package activities

import (
	"context"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// MarkProcessingInput says which run takes its photo.
type MarkProcessingInput struct {
	Run photo.Run `json:"run"`
}

// MarkProcessing makes the run the photo's owner, and its status processing.
// It is idempotent: one UPDATE that only the same or a newer run can make. A
// photo that does not exist is a failure at once.
func (a *Activities) MarkProcessing(ctx context.Context, in MarkProcessingInput) error {
	ctx = about(ctx, in.Run, 0)
	return a.applicationError(ctx, a.DB.MarkProcessing(ctx, in.Run))
}
