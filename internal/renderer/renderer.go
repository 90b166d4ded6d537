// Package renderer makes thumbnails in sandboxed processes, so that a hostile
// picture can fail its own photo and nothing else:
//
//	Render ──▶ supervisor ──pipe──▶ photo-processor-render ──pipe──▶ thumbnails | failure
//	           supervisor ──pipe──▶ photo-processor-render
//	           …  one for each picture that is rendered concurrently
//
// Photos come from strangers, and libvips and its codecs are C and C++. Each
// fault of a picture becomes a failure of its photo:
//
//	the process crashes               render_crashed
//	it does not answer in time        render_timeout; the process is killed
//	it needs more memory than it may  image_too_large
//
// Pictures in other processes are not affected, and a new process replaces the
// lost one. Code that a picture injects finds no files, no network, no other
// processes and no secrets; see internal/renderer/sandbox.
//
// A supervisor is a goroutine that owns one process at a time:
//
//	start ──▶ wait for a picture ──▶ render it ──┐
//	  ▲         ▲  (the process is warm)         │
//	  │         └───────── healthy ◀─────────────┤
//	  └── replaced: it must be, was killed, ◀────┘
//	      or reached MaxPictures or maxGrowth
//
// This package does not load libvips. internal/renderer/protocol defines the
// frames in the pipes.
package renderer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/renderer/protocol"
)

// Options choose the thumbnails to make and the limits on sources.
type Options = protocol.Options

// Status lists the sandbox's measures and which of them are in force.
type Status = protocol.Status

// Defaults of [Config].
const (
	// DefaultTimeout is many times what the largest picture takes.
	DefaultTimeout = time.Minute

	// DefaultMaxMemory is 1 GiB, enough for a progressive JPEG of 200 million
	// pixels with subsampled colour, or a HEIC of 100 million. Both are decoded
	// as a whole.
	DefaultMaxMemory = 1 << 30

	// processMemory is what a process reserves before its first picture, in
	// bytes. Most of that is never touched.
	processMemory = 190_000_000

	// MinMaxMemory is 384 MiB, about twice processMemory.
	MinMaxMemory = 384 << 20

	// DefaultMaxPictures spreads the start of a process, about 100 ms of CPU,
	// over so many pictures that each pays less than one percent.
	DefaultMaxPictures = 500
)

// Config is the configuration of a [Renderer].
type Config struct {
	Options Options

	// Path is the program photo-processor-render; see [Find]. Required.
	Path string

	// Concurrency is the number of processes, each of which renders one picture
	// at a time. Defaults to 1.
	Concurrency int

	// Timeout limits one picture, from the first byte sent to the last
	// received. Defaults to DefaultTimeout.
	Timeout time.Duration

	// MaxMemory limits the memory that one process reserves, in bytes. The
	// program itself reserves about 190 MB of it, and uses about 50. A picture
	// whose header shows that the rest does not suffice is not decoded:
	// Options.MaxMemory defaults to the rest. At least MinMaxMemory; defaults
	// to DefaultMaxMemory.
	MaxMemory int64

	// MaxPictures is the number of pictures after which a process is replaced.
	// With 1 no process sees two pictures. Defaults to DefaultMaxPictures.
	MaxPictures int

	// RequireSandbox makes the start of a process fail if one of the sandbox's
	// layers is not in force. By default processes run under the others.
	RequireSandbox bool

	// Log receives the processes' stderr and the reasons for their exits.
	// Defaults to slog's default logger.
	Log *slog.Logger
}

// Renderer makes thumbnails. Its methods may be called concurrently.
type Renderer struct {
	config Config
	jobs   chan job

	closing     context.Context // canceled by Close
	close       context.CancelFunc
	supervisors sync.WaitGroup

	waiting atomic.Int64 // pictures that no process has begun to render
	running atomic.Int64 // processes that render or are ready to
	partial atomic.Int64 // those of them that lack a layer of the sandbox

	sandbox          atomic.Pointer[Status]
	namespacesWarned atomic.Int64 // when the lack of namespaces was logged, in Unix nanoseconds
}

// Source is a photo's bytes. They are copied to a process when one is free, so
// a waiting Source takes no memory of the renderer.
type Source struct {
	Size int64 // length in bytes, at most protocol.MaxSource

	// Open returns a reader of the Size bytes. It is called again if a process
	// exits before it has read them all. [Renderer.Render] wraps errors of Open
	// and of the reader in a [SourceReadError].
	Open func(context.Context) (io.ReadCloser, error)
}

// Bytes returns a Source of bytes in memory.
func Bytes(content []byte) Source {
	return Source{
		Size: int64(len(content)),
		Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
	}
}

// job is a picture that is handed to a supervisor.
type job struct {
	ctx    context.Context
	source Source
	result chan<- result
}

type result struct {
	made photo.Rendering
	err  error
}

// ErrClosed is the error of Render after Close.
var ErrClosed = errors.New("the renderer is closed")

// missingError is the error of starting a process whose sandbox is incomplete,
// with Config.RequireSandbox.
type missingError struct{ missing []string }

func (e *missingError) Error() string {
	return "the sandbox is incomplete, and RENDER_SANDBOX is required: " + strings.Join(e.missing, "; ")
}

// New starts the processes and waits until all are ready. It fails if the
// configuration is invalid or one of the processes does not start.
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
		return nil, fmt.Errorf("renderer: a memory limit of %d bytes is too low; a process needs at least %d", c.MaxMemory, MinMaxMemory)
	}
	if c.Options.MaxMemory == 0 {
		c.Options.MaxMemory = c.MaxMemory - processMemory
	}
	if _, err := os.Stat(c.Path); err != nil {
		return nil, fmt.Errorf("renderer: %w", err)
	}

	r := &Renderer{config: c, jobs: make(chan job)}
	r.closing, r.close = context.WithCancel(context.Background())
	started := make(chan error, c.Concurrency)
	for range c.Concurrency {
		r.supervisors.Go(func() { r.supervise(started) })
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

// Close kills all processes, aborts the pictures that they render, and returns
// when the processes are gone. It may be called more than once.
func (r *Renderer) Close() {
	r.close()
	r.supervisors.Wait()
}

// Sandbox returns the state of the sandbox, as the process that started last
// reported it.
func (r *Renderer) Sandbox() Status { return *r.sandbox.Load() }

// Processes returns the number of running processes: with all layers of the
// sandbox, and with some.
func (r *Renderer) Processes() (confined, partial int64) {
	partial = r.partial.Load()
	return max(0, r.running.Load()-partial), partial
}

// Waiting returns the number of pictures that wait for a free process.
func (r *Renderer) Waiting() int64 { return r.waiting.Load() }

// Ready returns an error when no process can render.
func (r *Renderer) Ready() error {
	if r.running.Load() == 0 {
		return errors.New("no render process is running; the log has the reason")
	}
	return nil
}

// logSandbox logs the state of the sandbox, as a warning if one of the measures
// that every supported machine has is not in force.
func (r *Renderer) logSandbox() {
	sandbox, level := r.Sandbox(), slog.LevelInfo
	if sandbox.Seccomp != "on" || !sandbox.NoNewPrivs || sandbox.UID == 0 {
		level = slog.LevelWarn
	}
	r.config.Log.Log(context.Background(), level, "renderer sandbox", "seccomp", sandbox.Seccomp, "landlock", sandbox.Landlock,
		"namespaces", sandbox.Namespaces, "uid", sandbox.UID, "no_new_privs", sandbox.NoNewPrivs, "max_memory", sandbox.MaxMemory)
}

// Render waits for a free process and makes the configured thumbnails of the
// source, and its placeholder. Its errors are a [*photo.Failure], a
// [*SourceReadError], the context's error or ErrClosed. When the context ends,
// the process that renders the picture is killed.
//
// While no process can be started, Render waits: that is an infrastructure
// error, which must not fail a photo. The log has the reason.
func (r *Renderer) Render(ctx context.Context, source Source) (photo.Rendering, error) {
	if source.Size > protocol.MaxSource {
		return photo.Rendering{}, photo.Fail(photo.SourceTooLarge, "the source has %d bytes; no more than %d can be rendered", source.Size, int64(protocol.MaxSource))
	}
	results := make(chan result, 1)
	r.submit(job{ctx, source, results})
	got := <-results
	return got.made, got.err
}

// submit hands the job to the first free supervisor, which sends the result. It
// sends an error itself if the job's context ends or the renderer is closed
// first.
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
