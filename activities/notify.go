package activities

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/activity"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/photojson"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/webhook"
)

// Types of application errors of webhooks.
const (
	// WebhookFailed is a receiver that did not accept an event.
	WebhookFailed = "webhook_failed"
	// BatchNotDone is a batch whose photos are not all completed or failed.
	BatchNotDone = "batch_not_done"
)

// NotifyInput names the photo's run, or the batch, whose end is posted.
type NotifyInput struct {
	Run   photo.Run `json:"run,omitzero"`
	Batch uuid.UUID `json:"batch,omitzero"`
}

// Notify posts the end of a photo's run, or of a batch, to the receiver of
// webhooks. It may do so more than once, with the same ID. It posts nothing for
// a photo that a newer run owns, whose end is posted instead, nor for one that
// is gone. A receiver that answers 410 Gone does not get the event again.
func (a *Activities) Notify(ctx context.Context, in NotifyInput) error {
	if a.Webhook == nil {
		return nil // it is no longer configured
	}
	if activity.GetInfo(ctx).IsLocalActivity && a.Webhook.IsAway() {
		return benignError("the receiver of webhooks is away", WebhookFailed, nil) // no workflow task slot waits for it
	}
	event, err := a.readEvent(ctx, in)
	if err != nil {
		return a.retryableError(ctx, err)
	}
	if event == nil {
		return nil
	}
	err = a.Webhook.Send(ctx, *event)
	switch {
	case errors.Is(err, webhook.ErrGone):
		a.Log.WarnContext(ctx, "the receiver of webhooks refuses an event for good", "webhook_id", event.ID, "type", event.Type, "error", err)
		return nil
	case err != nil:
		a.Outages.Do(WebhookFailed, func() {
			a.Log.WarnContext(ctx, "a webhook was not accepted; Temporal retries for a day; lines of other webhooks are omitted for a minute",
				"webhook_id", event.ID, "type", event.Type, "error", err)
		})
		return benignError(err.Error(), WebhookFailed, nil)
	}
	return nil
}

// readEvent reads the event; nil if there is none to post.
func (a *Activities) readEvent(ctx context.Context, in NotifyInput) (*webhook.Event, error) {
	if in.Batch != uuid.Nil {
		batch, err := a.DB.Batch(ctx, in.Batch)
		if errors.Is(err, postgres.ErrNoBatch) {
			return nil, nil
		}
		return &webhook.Event{ID: in.Batch.String(), Type: "batch.done", At: batch.DoneAt, Data: photojson.ToBatch(batch)}, err
	}
	p, err := a.DB.Photo(ctx, in.Run.Photo)
	if errors.Is(err, photo.ErrNotFound) || err == nil && (p.RunID != in.Run.ID || !p.Status.IsFinal()) {
		return nil, nil
	}
	return &webhook.Event{ID: in.Run.ID, Type: "photo." + string(p.Status), At: p.UpdatedAt, Data: a.PhotoJSON.Detail(p)}, err
}

// AwaitBatchInput names a batch.
type AwaitBatchInput struct {
	Batch uuid.UUID `json:"batch"`
}

const (
	minBatchPoll = time.Second
	maxBatchPoll = time.Minute
)

// AwaitBatch returns nil if the batch is done, or has been deleted. Otherwise it
// returns an error, and Temporal retries it after a tenth of the batch's age, so
// that a batch costs few attempts, and its end is seen soon.
func (a *Activities) AwaitBatch(ctx context.Context, in AwaitBatchInput) error {
	batch, err := a.DB.Batch(ctx, in.Batch)
	if errors.Is(err, postgres.ErrNoBatch) {
		return nil
	}
	if err != nil {
		return a.retryableError(ctx, err)
	}
	if !batch.DoneAt.IsZero() {
		return nil
	}
	message := fmt.Sprintf("%d of %d photos are completed or failed", batch.Completed+batch.Failed, batch.Total())
	return waitError(message, BatchNotDone, min(max(time.Since(batch.CreatedAt)/10, minBatchPoll), maxBatchPoll))
}
