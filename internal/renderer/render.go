package renderer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/renderer/protocol"
)

// condition is the state of a process after a picture.
type condition int

const (
	healthy     condition = iota // ready for the next picture
	mustReplace                  // exited, or may be in a state that affects the next picture
	killed                       // killed by this package, for no fault of the process
)

// errTimeout is the cause of a context that ended after Config.Timeout.
var errTimeout = errors.New("RENDER_TIMEOUT")

// errMemory is the cause of a context that ended because the process held more
// memory than Config.MaxMemory.
var errMemory = errors.New("RENDER_MAX_MEMORY")

// errSourceNotSent means that the process exited before it had read the whole
// source. The picture did not cause the exit, so another process gets the job.
var errSourceNotSent = errors.New("the process did not read the source")

// SourceReadError wraps an error of opening or reading a [Source]. It is an
// infrastructure error, and no failure of the photo.
type SourceReadError struct{ Err error }

func (e *SourceReadError) Error() string { return "read the source: " + e.Err.Error() }

// Unwrap returns the error of the source.
func (e *SourceReadError) Unwrap() error { return e.Err }

func isSourceReadError(err error) bool {
	_, ok := errors.AsType[*SourceReadError](err)
	return ok
}

// sourceReader marks the errors of reading a source, so that a copy to a
// process can distinguish them from errors of writing.
type sourceReader struct{ io.Reader }

func (r sourceReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = &SourceReadError{err}
	}
	return n, err
}

// render has the process make the thumbnails of one photo. It kills the process
// as soon as the job's context ends, the timeout is over or the renderer is
// closed; that also unblocks the reads and writes of the pipes.
func (r *Renderer) render(p *process, j job) (result, condition) {
	ctx, cancel := context.WithTimeoutCause(j.ctx, r.config.Timeout, errTimeout)
	defer cancel()
	defer context.AfterFunc(r.closing, cancel)()
	ctx, exceed := context.WithCancelCause(ctx)
	defer exceed(nil)
	stopKill := context.AfterFunc(ctx, p.kill)

	source, err := j.source.Open(ctx)
	if err != nil {
		stopKill()
		return result{err: &SourceReadError{err}}, healthy
	}
	defer source.Close()

	go p.watchMemory(ctx, r.config.MaxMemory+memoryAllowance, func() { exceed(errMemory) })
	p.log.nextPicture(j.ctx)
	made, failure, err := p.exchange(source, j.source.Size, r.config.Options)
	after := healthy
	if !stopKill() { // the kill may have come a moment after the answer
		after = killed
	}
	switch {
	case isSourceReadError(err) && j.ctx.Err() == nil && r.closing.Err() == nil:
		// The process waits for the rest of the frame. If the timeout is over,
		// the source was what took the time.
		return result{err: err}, killed
	case err != nil && after == killed:
		return result{err: r.killError(ctx, p, j)}, killed
	case err != nil:
		return result{err: r.classifyExit(j.ctx, p, err)}, mustReplace
	case p.stdout.Buffered() > 0:
		r.config.Log.ErrorContext(j.ctx, "a render process sent more than one answer; the first is used and the process replaced", "process", p.pid())
		after = mustReplace
	case failure == nil:
	case failure.Code == photo.Internal:
		// The cause of the failure may still be in the process.
		r.config.Log.ErrorContext(j.ctx, "a render process reported an internal failure; it is replaced", "process", p.pid(), "reason", failure.Message)
		after = mustReplace
	}
	if failure != nil {
		return result{err: failure}, after
	}
	return result{made: made}, after
}

// killError returns the error of a job whose process was killed: a failure with
// the code render_timeout or image_too_large, the context's error or ErrClosed.
func (r *Renderer) killError(ctx context.Context, p *process, j job) error {
	switch {
	case errors.Is(context.Cause(ctx), errMemory):
		r.config.Log.ErrorContext(j.ctx, "a render process got more memory than the kernel should allow it; it is killed and its photo fails",
			"process", p.pid(), "limit", r.config.MaxMemory)
		return r.tooLarge()
	case errors.Is(context.Cause(ctx), errTimeout):
		return photo.Fail(photo.RenderTimeout, "the thumbnails were not made within the limit of %s (RENDER_TIMEOUT)", r.config.Timeout)
	case j.ctx.Err() != nil:
		return j.ctx.Err()
	default:
		return ErrClosed
	}
}

// classifyExit waits for a process that gave no valid answer to exit, and
// returns the job's error: a failure with the code image_too_large or
// render_crashed, or errSourceNotSent. err is what the exchange failed with; it
// is logged and not shown to clients.
func (r *Renderer) classifyExit(ctx context.Context, p *process, err error) error {
	// A source that fits into the pipe is sent even if the process is dying.
	unread := p.exitOrKill()
	log := r.config.Log.With("process", p.pid())
	switch {
	case p.outOfMemory():
		log.WarnContext(ctx, "a picture needs more memory than a render process may have; its photo fails", "limit", r.config.MaxMemory)
		return r.tooLarge()
	case unread || errors.Is(err, errSourceNotSent):
		log.ErrorContext(ctx, "a render process exited before it had read the source; another process gets the photo", "ended", p.exitState(), "error", err)
		return errSourceNotSent
	default:
		log.ErrorContext(ctx, "a render process crashed on a picture; a new one is started", "ended", p.exitState(), "error", err)
		return photo.Fail(photo.RenderCrashed, "the renderer died of this picture")
	}
}

func (r *Renderer) tooLarge() error {
	return photo.Fail(photo.ImageTooLarge, "the picture needs more memory than the limit of %s (RENDER_MAX_MEMORY)", megabytes(r.config.MaxMemory))
}

func megabytes(n int64) string { return fmt.Sprintf("%d MB", n/1_000_000) }

// exchange sends the source to the process and reads the answer. The error is
// a *SourceReadError, errSourceNotSent, or one of reading the answer.
func (p *process) exchange(source io.Reader, size int64, o Options) (made photo.Rendering, failure *photo.Failure, err error) {
	switch err := protocol.WriteSource(p.stdin, sourceReader{source}, size); {
	case isSourceReadError(err):
		return made, nil, err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return made, nil, &SourceReadError{err}
	case err != nil:
		return made, nil, fmt.Errorf("%w: %w", errSourceNotSent, err)
	}
	if made, failure, err = protocol.ReadAnswer(p.stdout, o); err != nil {
		return made, nil, fmt.Errorf("read the answer: %w", err)
	}
	return made, failure, nil
}
