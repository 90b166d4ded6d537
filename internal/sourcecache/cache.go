// Package sourcecache keeps one worker's fetched sources until they are
// rendered: in memory up to a limit, and beyond it in temporary files.
//
//	fetching ──▶ fetched ──▶ removed, by MakeThumbnails once the thumbnails are published
//	   │            ├──────▶ removed, by Finish if it runs on the worker with the source
//	   │            └──────▶ evicted, when it is unused for MaxAge, or the disk limit is reached
//	   └──────────────────▶ removed, when the fetch fails or is canceled
//
// Close removes all sources. A fetch is canceled when its last waiter gives up,
// or by Remove.
//
// It is only a cache: a step that misses its source fetches it again, for
// example after a crash or on another worker. A fetch outlives the attempt that
// started it if the attempt times out, and the next attempt waits for the same
// fetch; MaxDetachedFetches bounds the number of such fetches.
package sourcecache

import (
	"context"
	"sync"
	"time"
)

// Config has a Cache's limits.
type Config struct {
	Dir       string        // of the temporary files
	MaxMemory int64         // bytes; beyond it, sources are written to files, which takes about as much CPU time as the fetch
	MaxDisk   int64         // bytes in files; beyond it, unused sources in files are evicted
	MaxAge    time.Duration // after which an unused source is evicted

	// MaxDetachedFetches is the maximum number of fetches that continue after
	// the deadline of their only waiter. It should be the number of regular
	// activities, which are the next to wait.
	MaxDetachedFetches int
}

// Cache has at most one source per key, which identifies a run. It is safe for
// concurrent use.
type Cache struct {
	config Config

	mu      sync.Mutex
	sources map[string]*Source
	memory  int64 // bytes in use
	disk    int64 // bytes in files
}

// New returns an empty cache.
func New(config Config) *Cache { return &Cache{config: config, sources: map[string]*Source{}} }

// Open returns the key's source. On a miss it starts fetch in the background,
// with the values of ctx but neither its deadline nor its cancellation. The
// caller must Wait for the source before it uses it, and must Release it in any
// case.
func (c *Cache) Open(ctx context.Context, key string, fetch func(context.Context, *Source) error) (s *Source, hit bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, hit = c.sources[key]; hit {
		s.expiry.Stop()
		s.users++
		return s, true
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s = &Source{cache: c, key: key, cancel: cancel, done: make(chan struct{}), fetching: true, users: 2}
	s.expiry = time.AfterFunc(c.config.MaxAge, func() { c.expire(s) })
	s.expiry.Stop()
	c.sources[key] = s
	go s.runFetch(ctx, fetch)
	return s, false
}

// detachedFetches counts the fetches without a waiter. The caller holds c.mu.
func (c *Cache) detachedFetches() (n int) {
	for _, s := range c.sources {
		if s.fetching && s.users == 1 {
			n++
		}
	}
	return n
}

// Close cancels all fetches and removes all sources.
func (c *Cache) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sources {
		s.remove()
	}
}

// Remove removes the key's source, if any, and cancels its fetch. Its users can
// still read it.
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
	if s.users == 0 { // false if it was opened after the timer fired
		s.remove()
	}
}
