// Package renderer makes thumbnails in processes of their own, each in a sandbox,
// so that a picture can do nothing but fail:
//
//	Render ──▶ keeper ──pipe──▶ photo-processor-render ──pipe──▶ pictures | failure
//	           keeper ──pipe──▶ photo-processor-render
//	           …  one for each picture that is rendered at a time
//
// Photos come from strangers and are decoded by a great deal of C. Whatever a
// picture does to the process that decodes it, it does it there: it crashes,
// and the photo has failed with render_crashed; it does not end, and is killed
// for render_timeout; it takes too much memory, and is image_too_large. Those in
// the other processes do not notice, and a new process takes the place of the one
// that is gone. A picture that takes its process over finds itself without
// files, network, other processes or secrets; see internal/renderer/sandbox.
//
// A keeper is a goroutine that keeps one process:
//
//	start ──▶ wait for a picture ──▶ render it ──┐
//	  ▲         ▲  (the process is warm)         │
//	  │         └───────── it is well ◀──────────┤
//	  └── it died, was killed, or has done its ──┘
//	      share, so that memory stays flat
//
// This package loads no libvips; internal/renderer/protocol is what is said
// through the pipes.
package renderer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/renderer/protocol"
)

// Options say which thumbnails to make, and of which sources to refuse to.
type Options = protocol.Options

// Status says what of the sandbox is in force.
type Status = protocol.Status

// Defaults of [Config].
const (
	// DefaultTimeout is many times what the largest picture takes.
	DefaultTimeout = time.Minute

	// DefaultMaxMemory is enough for a progressive JPEG of 100 million pixels,
	// which must be decoded whole.
	DefaultMaxMemory = 1 << 30

	// MinMaxMemory is what a process needs to be there at all, doubled. Most of
	// it is reserved and never touched.
	MinMaxMemory = 384 << 20

	// DefaultMaxPictures makes the start of a process, some 100 ms of CPU, cost
	// each of its pictures less than one percent.
	DefaultMaxPictures = 500
)

// Config says how to render.
type Config struct {
	Options Options

	// Path is the program photo-processor-render; see [Find]. Required.
	Path string

	// Concurrency is how many pictures are rendered at a time, each in a process
	// of its own. Defaults to 1.
	Concurrency int

	// Timeout is for one picture. Defaults to DefaultTimeout.
	Timeout time.Duration

	// MaxMemory is what one process may have, in bytes, the program's own part
	// (some 170 MB, most of it never touched) included. Defaults to
	// DefaultMaxMemory.
	MaxMemory int64

	// MaxPictures is after how many pictures a process makes place for a new
	// one. 1 gives each picture a process that has seen no other. Defaults to
	// DefaultMaxPictures.
	MaxPictures int

	// Log gets what processes say and how they end. Defaults to slog's.
	Log *slog.Logger
}

const (
	// maxGrowth bounds what a process may keep, in bytes, beyond what it had
	// before its first picture. A large picture leaves some behind, and more than
	// this is better given back.
	maxGrowth = 256 << 20

	// The pauses before a process is started whose predecessors did not manage
	// one picture: none for the first, which may have had a bad picture, and then
	// up to what a queue full of bad pictures may cost the good ones.
	firstPause = 100 * time.Millisecond
	maxPause   = 2 * time.Second
)

// Renderer makes thumbnails. It may be used by several goroutines.
type Renderer struct {
	config Config
	jobs   chan job

	closing context.Context // done: all end
	close   context.CancelFunc
	keepers sync.WaitGroup

	waiting atomic.Int64 // pictures that no process has begun to render
	running atomic.Int64 // processes that render, or could

	sandbox    atomic.Pointer[Status]
	namespaces atomic.Bool // that the kernel made the processes' namespaces
}

// Source is a photo's bytes. They are read when a process is free for them, and
// go straight there: what waits takes no memory.
type Source struct {
	Size int64 // bytes that Open's reader gives

	// Open gives the bytes. It may be called again, if a process has ended
	// before it had them all. Its errors, and the reader's, are Render's.
	Open func(context.Context) (io.ReadCloser, error)
}

// Bytes is a Source of bytes that are there.
func Bytes(content []byte) Source {
	return Source{
		Size: int64(len(content)),
		Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
	}
}

// job is a picture on its way to a keeper.
type job struct {
	ctx    context.Context
	source Source
	result chan<- result
}

type result struct {
	pictures []photo.Picture
	err      error
}

// ErrClosed is what Render gives after Close.
var ErrClosed = errors.New("the renderer is closed")

// New starts the processes and waits until all are ready. An error says why
// they cannot be.
func New(c Config) (*Renderer, error) {
	if c.Concurrency == 0 {
		c.Concurrency = 1
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.MaxMemory == 0 {
		c.MaxMemory = DefaultMaxMemory
	}
	if c.MaxPictures == 0 {
		c.MaxPictures = DefaultMaxPictures
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if len(c.Options.Boxes) == 0 {
		return nil, errors.New("renderer: no thumbnail size is configured")
	}
	if c.MaxMemory < MinMaxMemory {
		return nil, fmt.Errorf("renderer: %d bytes of memory are fewer than the %d that it takes", c.MaxMemory, MinMaxMemory)
	}
	if _, err := os.Stat(c.Path); err != nil {
		return nil, fmt.Errorf("renderer: %w", err)
	}

	r := &Renderer{config: c, jobs: make(chan job)}
	r.namespaces.Store(true) // until shown otherwise
	r.closing, r.close = context.WithCancel(context.Background())
	started := make(chan error, c.Concurrency)
	for range c.Concurrency {
		r.keepers.Go(func() { r.keep(started) })
	}
	for range c.Concurrency {
		if err := <-started; err != nil {
			r.Close()
			return nil, fmt.Errorf("renderer: %s does not start: %w", c.Path, err)
		}
	}
	r.logSandbox()
	return r, nil
}

// Close ends all processes, and what they are rendering. It returns when they
// are gone.
func (r *Renderer) Close() {
	r.close()
	r.keepers.Wait()
}

// Sandbox says what of the sandbox is in force, by what the process said that was
// started last.
func (r *Renderer) Sandbox() Status { return *r.sandbox.Load() }

// Waiting is how many pictures wait for a process to be free.
func (r *Renderer) Waiting() int64 { return r.waiting.Load() }

// Ready says whether there is a process that can render.
func (r *Renderer) Ready() error {
	if r.running.Load() == 0 {
		return errors.New("no process that renders is running; the log says why")
	}
	return nil
}

// logSandbox says it to who operates the worker; louder when it is not what it
// should be.
func (r *Renderer) logSandbox() {
	sandbox, level := r.Sandbox(), slog.LevelInfo
	if sandbox.Seccomp != "on" || !sandbox.NoNewPrivs || sandbox.UID == 0 {
		level = slog.LevelWarn
	}
	r.config.Log.Log(context.Background(), level, "renderer sandbox", "seccomp", sandbox.Seccomp, "landlock", sandbox.Landlock,
		"namespaces", sandbox.Namespaces, "uid", sandbox.UID, "no_new_privs", sandbox.NoNewPrivs, "max_memory", sandbox.MaxMemory)
}

// Render makes the thumbnails, as configured, when a process is free. Its errors
// are a *photo.Failure, the source's, the context's, or ErrClosed. When the
// context ends so does the rendering, at once.
//
// When no process can be started it waits until one can: that is no failure of
// the photo. The log has the reason.
func (r *Renderer) Render(ctx context.Context, source Source) ([]photo.Picture, error) {
	if source.Size > protocol.MaxSource {
		return nil, photo.Fail(photo.SourceTooLarge, "the source has %d bytes; no more than %d can be rendered", source.Size, int64(protocol.MaxSource))
	}
	results := make(chan result, 1)
	r.submit(job{ctx, source, results})
	made := <-results
	return made.pictures, made.err
}

// submit gives the job to the first keeper that is free, who answers it; or
// answers it when there is no more sense in waiting.
func (r *Renderer) submit(j job) {
	r.waiting.Add(1)
	defer r.waiting.Add(-1)
	select {
	case r.jobs <- j:
	case <-j.ctx.Done():
		j.result <- result{err: j.ctx.Err()}
	case <-r.closing.Done():
		j.result <- result{err: ErrClosed}
	}
}

// keep keeps one process running until the renderer is closed. It tells how the
// first start went, and gives up if that fails.
func (r *Renderer) keep(started chan<- error) {
	pauses := &backoff.ExponentialBackOff{InitialInterval: firstPause, Multiplier: 2, RandomizationFactor: 0.2, MaxInterval: maxPause}
	pauses.Reset()
	failures := 0 // processes in a row that have not managed one picture
	for first := true; r.closing.Err() == nil; first = false {
		if failures > 1 && !r.pause(pauses.NextBackOff()) {
			return
		}
		p, err := r.start()
		if err == nil {
			r.running.Add(1) // before it is told: who has a Renderer has one that is ready
		}
		if first {
			started <- err
			if err != nil {
				return
			}
		}
		if errors.Is(err, ErrClosed) {
			return
		}
		if err != nil {
			r.config.Log.Error("a renderer does not start", "error", err)
			failures++
			continue
		}
		useful := r.serve(p)
		r.running.Add(-1)
		if useful {
			failures = 0
			pauses.Reset()
		} else {
			failures++
		}
	}
}

// pause waits, and tells whether there is something to wait for.
func (r *Renderer) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.closing.Done():
		return false
	}
}

// serve has the process render one picture after the other, as long as it is
// well, and ends it. It tells whether the process was of any use, or at least not
// to blame.
func (r *Renderer) serve(p *process) (useful bool) {
	defer p.end()
	for served := 0; ; served++ {
		if served >= r.config.MaxPictures || p.grownBy() > maxGrowth {
			return true
		}
		select {
		case j := <-r.jobs:
			pictures, after, err := r.render(p, j)
			if errors.Is(err, errUnread) {
				go r.submit(j) // to a keeper whose process is well
			} else {
				j.result <- result{pictures, err}
			}
			if after != well {
				return served > 0 || after == abandoned
			}
		case <-p.exited:
			r.config.Log.Warn("a renderer ended that had nothing to do", "process", p.pid(), "ended", p.ending())
			return served > 0
		case <-r.closing.Done():
			return true
		}
	}
}
