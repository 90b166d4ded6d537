// Package sourcecache keeps the sources that one worker has fetched until it has
// rendered them: in memory, and beyond that in nameless files.
//
//	fetching ──▶ waiting to be rendered ──▶ removed: rendered, or the run has ended
//	    └─ failed: removed    └─ evicted: not used for MaxAge, or the disk is full
//
// Processing never depends on it: a step that does not find its source fetches it
// again, as after a crash, or where another worker goes on with the photo. A fetch
// outlives an attempt that times out, and the next attempt waits for it.
package sourcecache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/renderer"
)

// Config bounds a Cache.
type Config struct {
	Dir       string        // has the files, which vanish with the process
	MaxMemory int64         // bytes; once used up, sources go to files, which costs about as much CPU as fetching them
	MaxDisk   int64         // bytes in files; beyond it, sources in files that nothing uses are evicted
	MaxAge    time.Duration // how long a source is kept that nothing uses

	// MaxUnattended is how many fetches may go on after the deadline of the only one
	// that waited: as many as there are regular activities to wait for them.
	MaxUnattended int
}

// Cache has one source for each key, which names a run.
type Cache struct {
	config Config

	mu      sync.Mutex
	sources map[string]*Source
	memory  int64 // bytes in use
	disk    int64
}

// New returns an empty cache.
func New(config Config) *Cache { return &Cache{config: config, sources: map[string]*Source{}} }

// chunkBytes is the unit in which sources take memory.
const chunkBytes = 256 << 10

type chunk [chunkBytes]byte

var chunks = sync.Pool{New: func() any { return new(chunk) }}

// Source is a source that is being fetched, or has been.
type Source struct {
	photo.SourceInfo               // set by the fetch
	Took             time.Duration // by the fetch
	Received         atomic.Int64  // bytes so far, counted by the fetch

	cache  *Cache
	key    string
	cancel context.CancelFunc // ends the fetch
	done   chan struct{}      // closed when the fetch has ended
	err    error              // of the fetch

	chunks []*chunk // all but the last are full
	last   int      // bytes in the last chunk
	file   *os.File // has the whole source; nil: it is in memory
	size   int64    // bytes in the file

	// Guarded by cache.mu.
	fetching    bool
	users       int
	removed     bool
	expires     *time.Timer // runs while there are no users
	unusedSince time.Time
}

// Open returns the key's source, and has it fetched unless it is there or being
// fetched; hit is false if this call began the fetch. The caller waits for it, and releases
// it in any case. The fetch has the values of ctx, and goes on after its end.
func (c *Cache) Open(ctx context.Context, key string, fetch func(context.Context, *Source) error) (s *Source, hit bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, hit = c.sources[key]; hit {
		s.expires.Stop()
		s.users++
		return s, true
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s = &Source{cache: c, key: key, cancel: cancel, done: make(chan struct{}), fetching: true, users: 2} // the caller and the fetch
	s.expires = time.AfterFunc(c.config.MaxAge, func() { c.expire(s) })
	s.expires.Stop()
	c.sources[key] = s
	go s.run(ctx, fetch)
	return s, false
}

// Wait waits until the source has been fetched, and returns the error of the fetch or
// of the context. If the context's deadline passes, up to MaxUnattended fetches go on; if
// it is canceled, the fetch ends, unless somebody else waits for it.
func (s *Source) Wait(ctx context.Context) error {
	select {
	case <-s.done:
		return s.err
	case <-ctx.Done():
	}
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	alone := s.users <= 2 // the caller and the fetch
	goesOn := errors.Is(ctx.Err(), context.DeadlineExceeded) && s.cache.unattended() < s.cache.config.MaxUnattended
	if alone && !goesOn {
		s.remove()
	}
	return ctx.Err()
}

// unattended counts the fetches that nobody waits for.
func (c *Cache) unattended() (n int) {
	for _, s := range c.sources {
		if s.fetching && s.users == 1 {
			n++
		}
	}
	return n
}

// Close ends all fetches, and removes all sources.
func (c *Cache) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sources {
		s.remove()
	}
}

// run fetches the source. A failure is not kept.
func (s *Source) run(ctx context.Context, fetch func(context.Context, *Source) error) {
	start := time.Now()
	s.err = recoverPanic(ctx, s, fetch)
	s.Took = time.Since(start)
	if ctx.Err() != nil { // it was removed: whoever still waits belongs to a run that has ended
		s.err = photo.ErrSuperseded
	}
	s.cache.mu.Lock()
	if s.err != nil {
		s.remove()
	}
	s.fetching = false
	s.release()
	s.cache.mu.Unlock()
	close(s.done)
}

// recoverPanic calls fetch, and returns an error if it panics: on a goroutine of its
// own it would end the worker.
func recoverPanic(ctx context.Context, s *Source, fetch func(context.Context, *Source) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic while fetching: %v\n%s", v, debug.Stack())
		}
	}()
	return fetch(ctx, s)
}

// Release ends the caller's use of the source.
func (s *Source) Release() {
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	s.release()
}

func (s *Source) release() {
	s.users--
	switch {
	case s.users > 0:
	case s.removed:
		s.free()
	default:
		s.unusedSince = time.Now()
		s.expires.Reset(s.cache.config.MaxAge)
	}
}

// Remove removes the key's source and ends its fetch. Those who use it may go on.
func (c *Cache) Remove(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.sources[key]; ok {
		s.remove()
	}
}

func (c *Cache) expire(s *Source) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.users == 0 { // else it was opened just now
		s.remove()
	}
}

// remove takes the source out of the cache and ends its fetch. Its memory is freed
// when its last user releases it. The caller holds cache.mu.
func (s *Source) remove() {
	if s.removed {
		return
	}
	delete(s.cache.sources, s.key)
	s.removed = true
	s.expires.Stop()
	s.cancel()
	if s.users == 0 {
		s.free()
	}
}

// free gives memory and disk back; the caller holds cache.mu.
func (s *Source) free() {
	s.freeMemory()
	if s.file != nil {
		s.cache.disk -= s.size
		_ = s.file.Close()
	}
}

func (s *Source) freeMemory() {
	for _, c := range s.chunks {
		chunks.Put(c)
	}
	s.cache.memory -= int64(len(s.chunks)) * chunkBytes
	s.chunks = nil
}

// Write adds to the source. Its errors are the disk's.
func (s *Source) Write(p []byte) (n int, err error) {
	for s.file == nil && n < len(p) {
		if len(s.chunks) == 0 || s.last == chunkBytes {
			if !s.takeChunk() {
				if err := s.moveToFile(); err != nil {
					return n, err
				}
				break
			}
		}
		copied := copy(s.chunks[len(s.chunks)-1][s.last:], p[n:])
		s.last += copied
		n += copied
	}
	if n == len(p) {
		return n, nil
	}
	written, err := s.writeFile(p[n:])
	return n + written, err
}

func (s *Source) takeChunk() bool {
	c := s.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.memory+chunkBytes > c.config.MaxMemory {
		return false
	}
	c.memory += chunkBytes
	s.chunks, s.last = append(s.chunks, chunks.Get().(*chunk)), 0
	return true
}

func (s *Source) moveToFile() (err error) {
	if s.file, err = newFile(s.cache.config.Dir); err != nil {
		return err
	}
	for _, content := range s.inMemory() {
		if _, err := s.writeFile(content); err != nil {
			return err
		}
	}
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	s.freeMemory()
	return nil
}

func (s *Source) writeFile(p []byte) (int, error) {
	if err := s.takeDisk(int64(len(p))); err != nil {
		return 0, err
	}
	return s.file.Write(p)
}

// takeDisk reserves bytes for the source's file. Where there are not enough, it
// evicts the sources in files that have been unused for longest.
func (s *Source) takeDisk(n int64) error {
	c := s.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.disk+n > c.config.MaxDisk {
		var oldest *Source
		for _, other := range c.sources {
			if other.users == 0 && other.file != nil && (oldest == nil || other.unusedSince.Before(oldest.unusedSince)) {
				oldest = other
			}
		}
		if oldest == nil {
			return fmt.Errorf("the source cache has %d bytes in files that are in use, and needs %d more; SOURCE_CACHE_DISK is %d", c.disk, n, c.config.MaxDisk)
		}
		oldest.remove()
	}
	c.disk += n
	s.size += n
	return nil
}

// ForRenderer passes the bytes to the renderer, as often as it asks for them.
func (s *Source) ForRenderer() renderer.Source {
	return renderer.Source{Size: s.Bytes, Open: func(context.Context) (io.ReadCloser, error) {
		if s.file != nil {
			return io.NopCloser(io.NewSectionReader(s.file, 0, s.Bytes)), nil
		}
		var readers []io.Reader
		for _, content := range s.inMemory() {
			readers = append(readers, bytes.NewReader(content))
		}
		return io.NopCloser(io.MultiReader(readers...)), nil
	}}
}

// inMemory returns the bytes in memory, in pieces.
func (s *Source) inMemory() (pieces [][]byte) {
	for i, c := range s.chunks {
		if i == len(s.chunks)-1 {
			return append(pieces, c[:s.last])
		}
		pieces = append(pieces, c[:])
	}
	return nil
}

// newFile makes a file without a name: on Linux it never has one, where the
// file system can do that. It vanishes when it is closed, or the worker dies.
// Elsewhere a worker that is killed within microseconds leaves an empty file behind.
func newFile(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if file, err := newNamelessFile(dir); err == nil {
		return file, nil
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
