// Package renderer runs internal/thumbnail for the worker: so many pictures at
// a time, each within its time.
//
// It renders inside the worker's own process. C code cannot be interrupted, so
// that a picture which is given up keeps its slot until libvips returns: the
// bound on concurrent renders, and so on memory, holds in any case.
package renderer

import (
	"context"
	"time"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/thumbnail"
)

// Renderer makes thumbnails with one set of options.
type Renderer struct {
	options thumbnail.Options
	timeout time.Duration
	slots   chan struct{}
}

// New prepares a renderer for concurrency pictures at a time (at least 1), and
// gives up a picture after timeout. libvips must have been started.
func New(options thumbnail.Options, concurrency int, timeout time.Duration) *Renderer {
	return &Renderer{options: options, timeout: timeout, slots: make(chan struct{}, concurrency)}
}

// Render waits for a free slot and makes the thumbnails. Its errors are a
// *photo.Failure, or the context's.
func (r *Renderer) Render(ctx context.Context, source []byte) ([]thumbnail.Picture, error) {
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}

	type result struct {
		pictures []thumbnail.Picture
		err      error
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-r.slots }()
		pictures, err := thumbnail.Make(source, r.options)
		done <- result{pictures, err}
	}()

	timer := time.NewTimer(r.timeout)
	defer timer.Stop()
	select {
	case made := <-done:
		return made.pictures, made.err
	case <-timer.C:
		return nil, photo.Fail(photo.RenderTimeout, "the thumbnails were not made within the limit of %s (RENDER_TIMEOUT)", r.timeout)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
