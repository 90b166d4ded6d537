package activities

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/renderer"
	"github.com/photo-processor/photo-processor/internal/source"
)

// spooled is a source that was fetched, in a file that has no name: it is gone
// when it is closed, or the worker dies.
type spooled struct {
	photo.Source
	file *os.File
}

// fetchSource fetches the photo's source under the limits of internal/source.
// It waits in a file for its turn to be rendered, because in memory those that
// wait could be gigabytes.
func (a *Activities) fetchSource(ctx context.Context, run photo.Run, received func(bytes int64)) (*spooled, error) {
	// The URL comes from the row, and is not passed through Temporal: it may
	// carry credentials, and histories are kept and shown. And as long as
	// PostgreSQL is away, no source is bothered.
	url, err := a.DB.SourceURL(ctx, run)
	if err != nil {
		return nil, err
	}
	file, err := newSpoolFile(a.SpoolDir)
	if err != nil {
		return nil, &storageError{spoolDir, err}
	}
	fetched, err := a.Fetcher.Fetch(ctx, url, file, received)
	if err != nil {
		_ = file.Close()
		if _, ok := errors.AsType[*source.WriteError](err); ok {
			err = &storageError{spoolDir, err}
		}
		return nil, err
	}
	return &spooled{photo.Source{Bytes: fetched.Bytes, SHA256: fetched.SHA256, MediaType: fetched.MediaType}, file}, nil
}

// newSpoolFile makes a file and removes its name at once.
func newSpoolFile(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(dir, "source-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// Close lets go of the file.
func (s *spooled) Close() error { return s.file.Close() }

// forRenderer hands the bytes to the renderer, as often as it asks for them.
func (s *spooled) forRenderer() renderer.Source {
	return renderer.Source{
		Size: s.Bytes,
		Open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(io.NewSectionReader(s.file, 0, s.Bytes)), nil
		},
	}
}
