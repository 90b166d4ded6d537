package activities

import (
	"context"
	"errors"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/source"
)

// fetchSource fetches the photo's source under the limits of internal/source.
// It waits in the spool for its turn to be rendered.
func (a *Activities) fetchSource(ctx context.Context, run photo.Run, received func(bytes int64)) (*spooled, error) {
	// The URL comes from the row, and is not passed through Temporal: it may
	// carry credentials, and histories are kept and shown. And as long as
	// PostgreSQL is away, no source is bothered.
	url, err := a.DB.SourceURL(ctx, run)
	if err != nil {
		return nil, err
	}
	spooled := &spooled{spool: a.Spool}
	fetched, err := a.Fetcher.Fetch(ctx, url, spooled, received)
	if err != nil {
		_ = spooled.Close()
		if _, ok := errors.AsType[*source.WriteError](err); ok {
			err = &storageError{spoolDir, err}
		}
		return nil, err
	}
	spooled.Source = photo.Source{Bytes: fetched.Bytes, SHA256: fetched.SHA256, MediaType: fetched.MediaType}
	return spooled, nil
}
