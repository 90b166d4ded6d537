package activities

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"go.temporal.io/sdk/activity"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/source"
)

// FetchSourceInput says whose source to fetch. The URL is not in it: it may
// carry credentials, and histories are kept and shown.
type FetchSourceInput struct {
	Run     photo.Run `json:"run"`
	Attempt int       `json:"attempt,omitempty"` // the workflow's own count, for the log alone
}

// FetchSource streams the photo's source into the originals bucket, under the
// limits of internal/source, and says what it was. It is idempotent: each
// attempt writes a key of its own, which appears whole or not at all, and
// Finish removes them all.
func (a *Activities) FetchSource(ctx context.Context, in FetchSourceInput) (*photo.Source, error) {
	ctx = about(ctx, in.Run, in.Attempt)
	fetched, err := a.fetchSource(ctx, in.Run)
	if err != nil {
		return nil, a.applicationError(ctx, err)
	}
	return fetched, nil
}

func (a *Activities) fetchSource(ctx context.Context, run photo.Run) (*photo.Source, error) {
	var received atomic.Int64
	defer keepAlive(ctx, func() any { return map[string]int64{"bytes_received": received.Load()} })()

	url, err := a.DB.SourceURL(ctx, run)
	if err != nil {
		return nil, err
	}
	key := fmt.Sprintf("%s%s-%d", originalPrefix(run.Photo), run.ID, activity.GetInfo(ctx).Attempt)

	// Cancelling the writer's context is how blob is told to drop what was
	// written so far.
	writing, drop := context.WithCancel(ctx)
	defer drop()
	writer, err := a.Originals.NewWriter(writing, key, nil)
	if err != nil {
		return nil, &storageError{err}
	}
	fetched, err := a.Fetcher.Fetch(ctx, url, writer, received.Store)
	a.Metrics.countBytes(ctx, received.Load())
	if err != nil {
		drop()
		_ = writer.Close() // reports the drop
		if _, ok := errors.AsType[*source.WriteError](err); ok {
			err = &storageError{err}
		}
		return nil, err
	}
	if err := writer.Close(); err != nil {
		return nil, &storageError{err}
	}
	return &photo.Source{Key: key, Bytes: fetched.Bytes, SHA256: fetched.SHA256, MediaType: fetched.MediaType}, nil
}
