package renderer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/renderer/protocol"
)

// condition is that of a process after a picture.
type condition int

const (
	well      condition = iota
	spoiled             // it is gone, or not to be trusted with another picture
	abandoned           // it is gone because we ended it, for no fault of its own
)

// errTimeout is why a context ended.
var errTimeout = errors.New("RENDER_TIMEOUT")

// errUnread says that the process ended before it had the whole source. So it
// did not die of that.
var errUnread = errors.New("the process did not read the source")

// SourceError says that a source could not be read: it is no fault of the
// picture's. It wraps the error of the source.
type SourceError struct{ Err error }

func (e *SourceError) Error() string { return "read the source: " + e.Err.Error() }

// Unwrap gives the source's error.
func (e *SourceError) Unwrap() error { return e.Err }

func isSourceError(err error) bool {
	_, ok := errors.AsType[*SourceError](err)
	return ok
}

// sourceReader tells errors of reading a source from those of writing to a
// process.
type sourceReader struct{ io.Reader }

func (r sourceReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = &SourceError{err}
	}
	return n, err
}

// render has the process make one photo's thumbnails. It returns as soon as the
// job's context ends, the time is over or the renderer is closed: the process is
// killed, and with it all that waits for it here.
func (r *Renderer) render(p *process, j job) ([]photo.Picture, condition, error) {
	ctx, cancel := context.WithTimeoutCause(j.ctx, r.config.Timeout, errTimeout)
	defer cancel()
	defer context.AfterFunc(r.closing, cancel)()
	stop := context.AfterFunc(ctx, p.kill)

	source, err := j.source.Open(ctx)
	if err != nil {
		stop()
		return nil, well, &SourceError{err}
	}
	defer source.Close()

	p.log.nextPicture(j.ctx)
	pictures, failure, err := p.exchange(source, j.source.Size, r.config.Options)
	after := well
	if killed := !stop(); killed { // perhaps a moment after it was done
		after = abandoned
	}
	switch {
	case isSourceError(err) && j.ctx.Err() == nil && r.closing.Err() == nil:
		// The process waits for the rest. Where the time is over it is the
		// source that took it.
		return nil, abandoned, err
	case err != nil && after == abandoned:
		return nil, abandoned, r.whyKilled(ctx, j)
	case err != nil:
		return nil, spoiled, r.post(j.ctx, p, err)
	case p.stdout.Buffered() > 0:
		r.config.Log.ErrorContext(j.ctx, "a renderer says more than it was asked for", "process", p.pid())
		after = spoiled
	case failure == nil:
	case failure.Code == photo.Internal:
		// What went wrong in there may have left its mark.
		r.config.Log.ErrorContext(j.ctx, "a renderer failed", "process", p.pid(), "reason", failure.Message)
		after = spoiled
	}
	if failure != nil {
		return nil, after, failure
	}
	return pictures, after, nil
}

func (r *Renderer) whyKilled(ctx context.Context, j job) error {
	switch {
	case context.Cause(ctx) == errTimeout:
		return photo.Fail(photo.RenderTimeout, "the thumbnails were not made within the limit of %s (RENDER_TIMEOUT)", r.config.Timeout)
	case j.ctx.Err() != nil:
		return j.ctx.Err()
	default:
		return ErrClosed
	}
}

// post says what a process died of that gave no answer, or none that makes
// sense. Only the log gets the details.
func (r *Renderer) post(ctx context.Context, p *process, err error) error {
	p.endSoon()
	if p.outOfMemory() {
		r.config.Log.WarnContext(ctx, "a renderer was refused memory for a picture", "process", p.pid(), "limit", r.config.MaxMemory)
		return photo.Fail(photo.ImageTooLarge, "the picture needs more memory than the limit of %s (RENDER_MAX_MEMORY)", megabytes(r.config.MaxMemory))
	}
	if errors.Is(err, errUnread) {
		r.config.Log.ErrorContext(ctx, "a renderer died before it had a picture", "process", p.pid(), "ended", p.ending(), "error", err)
		return errUnread
	}
	r.config.Log.ErrorContext(ctx, "a renderer died of a picture", "process", p.pid(), "ended", p.ending(), "error", err)
	return photo.Fail(photo.RenderCrashed, "the renderer died of this picture")
}

func megabytes(n int64) string { return fmt.Sprintf("%d MB", n/1_000_000) }

// exchange sends the source and waits for the answer.
func (p *process) exchange(source io.Reader, size int64, o Options) ([]photo.Picture, *photo.Failure, error) {
	switch err := protocol.WriteSource(p.stdin, sourceReader{source}, size); {
	case err == io.ErrUnexpectedEOF:
		return nil, nil, &SourceError{err}
	case isSourceError(err):
		return nil, nil, err
	case err != nil:
		return nil, nil, fmt.Errorf("%w: %w", errUnread, err)
	}
	pictures, failure, err := protocol.ReadAnswer(p.stdout, o)
	if err != nil {
		return nil, nil, fmt.Errorf("read the answer: %w", err)
	}
	return pictures, failure, nil
}

// dyingTime is what a process that broke off has to end by itself, and so to
// say how.
const dyingTime = time.Second
