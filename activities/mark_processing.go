package activities

import (
	"context"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// MarkProcessingInput says which run takes its photo.
type MarkProcessingInput struct {
	Run photo.Run `json:"run"`
}

// MarkProcessingResult says what was found.
type MarkProcessingResult struct {
	// Again is true if the same run has marked the photo before and has no memory
	// of it: the workflow task in which it did was lost.
	Again bool `json:"again,omitempty"`
}

// MarkProcessing makes the run the photo's owner, and its status processing.
// It is idempotent: one UPDATE that only the same or a newer run can make. A
// photo that does not exist is a failure at once.
func (a *Activities) MarkProcessing(ctx context.Context, in MarkProcessingInput) (MarkProcessingResult, error) {
	ctx = about(ctx, in.Run, 0)
	again, err := a.DB.MarkProcessing(ctx, in.Run)
	return MarkProcessingResult{Again: again}, a.applicationError(ctx, err)
}
