package activities

import (
	"context"

	"github.com/google/uuid"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
)

// CreateBatchInput says which photos are a batch.
type CreateBatchInput struct {
	Batch  uuid.UUID `json:"batch"`
	Photos photo.IDs `json:"photos"`
}

// CreateBatch creates a batch of photos that are not started yet. It is
// idempotent: the API may have created the batch.
func (a *Activities) CreateBatch(ctx context.Context, in CreateBatchInput) error {
	return a.retryableError(ctx, a.DB.CreateBatch(ctx, in.Batch, in.Photos))
}

// SelectPageInput selects a page of photos for a batch.
type SelectPageInput struct {
	Batch     uuid.UUID       `json:"batch"`
	Query     string          `json:"query"` // of the request, for people
	Selection photo.Selection `json:"selection"`
	After     Cursor          `json:"after"`
	Limit     int             `json:"limit"` // largest number of photos
}

// SelectPageResult has the photos of a page. A page with less photos than the
// limit is the last.
type SelectPageResult struct {
	Photos photo.IDs `json:"photos"`
	Next   Cursor    `json:"next"` // the last photo of the page
}

// SelectPage adds the next page of selected photos to the batch, which it
// creates if the API has not. It is idempotent, because none of them is started
// before it returns.
func (a *Activities) SelectPage(ctx context.Context, in SelectPageInput) (*SelectPageResult, error) {
	if err := a.DB.CreateEmptyBatch(ctx, in.Batch, in.Query); err != nil {
		return nil, a.retryableError(ctx, err)
	}
	photos, next, err := a.DB.SelectPage(ctx, in.Batch, in.Selection, postgres.Cursor(in.After), in.Limit)
	if err != nil {
		return nil, a.retryableError(ctx, err)
	}
	return &SelectPageResult{Photos: photos, Next: Cursor(next)}, nil
}

// EndBatchInput says how the starts of a batch ended.
type EndBatchInput struct {
	Batch      uuid.UUID `json:"batch"`
	Canceled   bool      `json:"canceled,omitempty"`
	NotStarted photo.IDs `json:"not_started,omitempty"` // photos of the batch that are not started
}

// EndBatchResult says what the workflow does next. It is nil if that is nothing.
type EndBatchResult struct {
	Notify bool `json:"notify,omitempty"` // post a webhook when the batch is done
}

// EndBatch records that no further photo of the batch is started. It is
// idempotent.
func (a *Activities) EndBatch(ctx context.Context, in EndBatchInput) (*EndBatchResult, error) {
	if err := a.DB.EndBatch(ctx, in.Batch, in.Canceled, in.NotStarted); err != nil {
		return nil, a.retryableError(ctx, err)
	}
	if a.Webhook == nil {
		return nil, nil
	}
	return &EndBatchResult{Notify: true}, nil
}
