package client

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/photo-processor/photo-processor/internal/client/openapi"
	"github.com/photo-processor/photo-processor/internal/photo"
)

// Batch is the progress of photos that one request had processed.
type Batch = openapi.Batch

// Selection selects the photos of a bulk operation. Status is required; the
// zero value of another field selects all photos.
type Selection struct {
	Status        photo.Status // Pending, Completed or Failed
	Code          photo.Code   // requires Status Failed
	CreatedBefore time.Time    // exclusive
	Limit         int          // the most photos
}

// ProcessSelected starts the processing of all selected photos, oldest first,
// and returns their batch. A workflow adds the photos to the batch, so that the
// batch's total grows. A second call starts a second walk over the photos,
// which is harmless.
func (c *Client) ProcessSelected(ctx context.Context, selection Selection) (Batch, error) {
	status := openapi.ProcessPhotosParamsStatus(selection.Status)
	params := openapi.ProcessPhotosParams{Status: &status}
	if selection.Code != "" {
		params.Code = &selection.Code
	}
	if !selection.CreatedBefore.IsZero() {
		params.CreatedBefore = &selection.CreatedBefore
	}
	if selection.Limit != 0 {
		params.Limit = &selection.Limit
	}
	resp, err := c.api.ProcessPhotosWithBodyWithResponse(ctx, &params, "application/json", http.NoBody)
	if err != nil {
		return Batch{}, err
	}
	return bodyOf(resp.JSON202, resp.HTTPResponse)
}

// Batch reads one batch.
func (c *Client) Batch(ctx context.Context, id uuid.UUID) (Batch, error) {
	resp, err := c.api.GetBatchWithResponse(ctx, id)
	if err != nil {
		return Batch{}, err
	}
	return bodyOf(resp.JSON200, resp.HTTPResponse)
}

// Batches lists the newest batches, newest first, and at most limit of them.
// limit must be positive.
func (c *Client) Batches(ctx context.Context, limit int) ([]Batch, error) {
	var batches []Batch
	for after := (*string)(nil); ; {
		size := min(limit-len(batches), pageSize)
		resp, err := c.api.ListBatchesWithResponse(ctx, &openapi.ListBatchesParams{Limit: &size, After: after})
		if err != nil {
			return nil, err
		}
		if resp.JSON200 == nil {
			return nil, unexpected(resp.HTTPResponse)
		}
		batches = append(batches, *resp.JSON200...)
		if after = nextPage(resp.HTTPResponse.Header); after == nil || len(batches) >= limit {
			return batches, nil
		}
	}
}

// CancelBatch cancels a batch and returns it as it is now: no further photo of
// it is started. Photos that were started are processed to their end. It has no
// effect on a batch that has started all its photos.
func (c *Client) CancelBatch(ctx context.Context, id uuid.UUID) (Batch, error) {
	resp, err := c.api.CancelBatchWithResponse(ctx, id)
	if err != nil {
		return Batch{}, err
	}
	return bodyOf(resp.JSON200, resp.HTTPResponse)
}
