package sourcecache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// Source is a source in the cache, fetched or being fetched.
//
// Only the fetch writes it. Others may use the SourceInfo, FetchDuration and
// ForRenderer after Wait returned nil, and Received at any time.
type Source struct {
	photo.SourceInfo // set by the fetch function
	FetchDuration    time.Duration
	Received         atomic.Int64 // bytes so far; updated by the fetch function

	cache  *Cache
	key    string
	cancel context.CancelFunc // cancels the fetch
	done   chan struct{}      // closed when the fetch has ended
	err    error              // of the fetch

	chunks    []*chunk // all but the last are full
	lastBytes int      // in the last chunk
	file      *os.File // has the whole source; nil while it is in memory
	fileBytes int64

	// Guarded by cache.mu.
	fetching    bool
	users       int // callers of Open, and the fetch
	removed     bool
	expiry      *time.Timer // runs while there are no users
	unusedSince time.Time
}

// Wait waits for the end of the fetch, and returns its error or the context's.
// If the context ends and nobody else waits, the fetch is canceled too, with
// one exception: after a deadline, up to MaxDetachedFetches fetches continue
// for the next attempt.
func (s *Source) Wait(ctx context.Context) error {
	select {
	case <-s.done:
		return s.err
	case <-ctx.Done():
	}
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	onlyWaiter := s.users <= 2 // the caller and the fetch
	continueDetached := errors.Is(ctx.Err(), context.DeadlineExceeded) && s.cache.detachedFetches() < s.cache.config.MaxDetachedFetches
	if onlyWaiter && !continueDetached {
		s.remove()
	}
	return ctx.Err()
}

// runFetch calls fetch and records its result. It removes a source whose fetch
// failed, so that the next Open fetches it again.
func (s *Source) runFetch(ctx context.Context, fetch func(context.Context, *Source) error) {
	start := time.Now()
	s.err = recoverPanic(ctx, s, fetch)
	s.FetchDuration = time.Since(start)
	if ctx.Err() != nil { // removed: nobody waits, the run has finished, or the worker stops
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

// recoverPanic calls fetch, and turns a panic into an error: it would crash the
// worker, since no activity runs on this goroutine.
func recoverPanic(ctx context.Context, s *Source, fetch func(context.Context, *Source) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic while fetching: %v\n%s", v, debug.Stack())
		}
	}()
	return fetch(ctx, s)
}

// Release ends the use that Open began. The source must not be used afterwards.
func (s *Source) Release() {
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	s.release()
}

// release removes a user. The caller holds cache.mu.
func (s *Source) release() {
	s.users--
	switch {
	case s.users > 0:
	case s.removed:
		s.free()
	default:
		s.unusedSince = time.Now()
		s.expiry.Reset(s.cache.config.MaxAge)
	}
}

// remove removes the source from the cache and cancels its fetch. Memory and
// file are freed when the last user releases the source. The caller holds
// cache.mu.
func (s *Source) remove() {
	if s.removed {
		return
	}
	delete(s.cache.sources, s.key)
	s.removed = true
	s.expiry.Stop()
	s.cancel()
	if s.users == 0 {
		s.free()
	}
}

// free frees the memory and the file. The caller holds cache.mu.
func (s *Source) free() {
	s.freeMemory()
	if s.file != nil {
		s.cache.disk -= s.fileBytes
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
