package sourcecache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// content is the source that the tests fetch.
var content = func() []byte {
	content := make([]byte, 3*chunkBytes+1000)
	_, _ = rand.NewChaCha8([32]byte{}).Read(content)
	return content
}()

// fetchContent returns a fetch function for the first n bytes of content.
func fetchContent(n int) func(context.Context, *Source) error {
	return func(_ context.Context, s *Source) error {
		// The structs hide WriterTo and ReaderFrom, so that io calls Write.
		written, err := io.CopyBuffer(struct{ io.Writer }{s}, struct{ io.Reader }{bytes.NewReader(content[:n])}, make([]byte, 70_001))
		s.Bytes = written
		return err
	}
}

// failIfFetched returns a fetch function that fails the test when it is called.
func failIfFetched(t *testing.T) func(context.Context, *Source) error {
	return func(context.Context, *Source) error {
		t.Error("the source was fetched again")
		return errors.New("fetched again")
	}
}

// stall returns a fetch function that waits for its context, or for release and
// then succeeds.
func stall(release <-chan struct{}) func(context.Context, *Source) error {
	return func(ctx context.Context, s *Source) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-release:
			return nil
		}
	}
}

// fetch fetches a source of n bytes and releases it.
func (c *Cache) fetch(t *testing.T, key string, n int) {
	t.Helper()
	s, hit := c.Open(t.Context(), key, fetchContent(n))
	require.False(t, hit)
	require.NoError(t, s.Wait(t.Context()))
	s.Release()
}

// has reports whether the cache has a source for the key, fetched or not.
func (c *Cache) has(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sources[key] != nil
}

// requireEmpty checks that the cache has no sources and uses no memory or disk.
func (c *Cache) requireEmpty(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	require.Empty(t, c.sources)
	require.Zero(t, c.memory)
	require.Zero(t, c.disk)
}

func TestMemoryAndFiles(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		memory int64
		bytes  int
		inFile bool
	}{
		"nothing":               {10 * chunkBytes, 0, false},
		"a chunk":               {chunkBytes, chunkBytes, false},
		"all in memory":         {4 * chunkBytes, len(content), false},
		"memory runs short":     {2 * chunkBytes, len(content), true},
		"no memory":             {0, len(content), true},
		"less than one chunk's": {chunkBytes - 1, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cache := New(Config{Dir: t.TempDir(), MaxMemory: c.memory, MaxDisk: int64(len(content)), MaxAge: time.Hour})
			for range 2 { // the second can use the limits that the first has freed
				s, hit := cache.Open(t.Context(), "run", fetchContent(c.bytes))
				require.False(t, hit)
				require.NoError(t, s.Wait(t.Context()))
				require.Equal(t, c.inFile, s.file != nil)
				if c.inFile {
					require.Zero(t, cache.memory)
					require.EqualValues(t, c.bytes, cache.disk)
				} else {
					require.Zero(t, cache.disk)
				}
				for range 2 { // a renderer may open the source again
					source, err := s.ForRenderer().Open(t.Context())
					require.NoError(t, err)
					got, err := io.ReadAll(source)
					require.NoError(t, err)
					require.True(t, bytes.Equal(content[:c.bytes], got))
				}
				s.Release()
				require.True(t, cache.has("run"))
				cache.Remove("run")
				cache.requireEmpty(t)
			}
		})
	}
}

func TestSourceIsFetchedOnce(t *testing.T) {
	t.Parallel()
	cache := New(Config{MaxMemory: 1 << 20, MaxAge: time.Hour, MaxDetachedFetches: 1})
	release := make(chan struct{})
	first, hit := cache.Open(t.Context(), "run", stall(release))
	require.False(t, hit)
	late, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	require.ErrorIs(t, first.Wait(late), context.DeadlineExceeded)
	first.Release()

	second, hit := cache.Open(t.Context(), "run", failIfFetched(t))
	require.True(t, hit, "the fetch goes on after the deadline")
	close(release)
	require.NoError(t, second.Wait(t.Context()))
	second.Release()
	third, hit := cache.Open(t.Context(), "run", failIfFetched(t))
	require.True(t, hit)
	require.NoError(t, third.Wait(t.Context()))
	cache.Remove("run")
	_, err := third.ForRenderer().Open(t.Context())
	require.NoError(t, err, "a user can read a removed source")
	third.Release()
	cache.requireEmpty(t)
}

func TestCanceledFetchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache := New(Config{MaxMemory: 1 << 20, MaxAge: time.Hour})
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		s, _ := cache.Open(t.Context(), "run", stall(nil))
		require.ErrorIs(t, s.Wait(canceled), context.Canceled)
		s.Release()
		synctest.Wait()
		cache.requireEmpty(t)

		release := make(chan struct{})
		s, _ = cache.Open(t.Context(), "run", stall(release))
		other, _ := cache.Open(t.Context(), "run", failIfFetched(t))
		require.ErrorIs(t, s.Wait(canceled), context.Canceled)
		s.Release()
		close(release)
		require.NoError(t, other.Wait(t.Context()), "another caller waits for the fetch")
		other.Release()
		cache.Remove("run")
		cache.requireEmpty(t)

		s, _ = cache.Open(t.Context(), "run", stall(nil))
		cache.Remove("run")
		require.ErrorIs(t, s.Wait(t.Context()), photo.ErrSuperseded)
		s.Release()
		cache.requireEmpty(t)
	})
}

func TestUnattendedFetchesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache := New(Config{MaxMemory: 1 << 20, MaxAge: time.Hour, MaxDetachedFetches: 1})
		for _, key := range []string{"first", "second"} {
			late, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			s, _ := cache.Open(t.Context(), key, stall(nil))
			require.ErrorIs(t, s.Wait(late), context.DeadlineExceeded)
			s.Release()
		}
		synctest.Wait()
		require.True(t, cache.has("first"))
		require.False(t, cache.has("second"))
		cache.Close()
		synctest.Wait()
		cache.requireEmpty(t)
	})
}

func TestFailedFetchIsRepeated(t *testing.T) {
	t.Parallel()
	cache := New(Config{MaxMemory: 1 << 20, MaxAge: time.Hour})
	for what, fetch := range map[string]func(context.Context, *Source) error{
		"the source answered 503": func(context.Context, *Source) error { return errors.New("the source answered 503") },
		"panic while fetching":    func(context.Context, *Source) error { panic("a defect") },
	} {
		s, hit := cache.Open(t.Context(), "run", fetch)
		require.False(t, hit)
		require.ErrorContains(t, s.Wait(t.Context()), what)
		s.Release()
	}
	cache.fetch(t, "run", 1)
}

func TestEviction(t *testing.T) {
	t.Run("by age", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			const maxAge = time.Minute
			cache := New(Config{MaxMemory: 1 << 20, MaxAge: maxAge})
			cache.fetch(t, "unused", 1)
			cache.fetch(t, "used", 1)
			time.Sleep(maxAge - time.Second) // of the synctest clock
			s, hit := cache.Open(t.Context(), "used", failIfFetched(t))
			require.True(t, hit)
			time.Sleep(2 * maxAge)
			require.False(t, cache.has("unused"))
			require.True(t, cache.has("used"))
			s.Release()
			time.Sleep(maxAge - time.Second)
			require.True(t, cache.has("used"))
			time.Sleep(2 * time.Second)
			cache.requireEmpty(t)
		})
	})
	t.Run("by bytes in files", func(t *testing.T) {
		cache := New(Config{Dir: t.TempDir(), MaxDisk: 1000, MaxAge: time.Hour})
		cache.fetch(t, "first", 400)
		used, _ := cache.Open(t.Context(), "used", fetchContent(400))
		require.NoError(t, used.Wait(t.Context()))
		cache.fetch(t, "third", 400)
		require.False(t, cache.has("first"), "the source that was unused for longest")
		require.True(t, cache.has("third"))

		s, _ := cache.Open(t.Context(), "large", fetchContent(601))
		require.EqualError(t, s.Wait(t.Context()),
			"the source cache has 400 bytes in files that are in use, and needs 601 more; SOURCE_CACHE_DISK is 1000")
		s.Release()
		require.True(t, cache.has("used"))
		used.Release()
		cache.fetch(t, "large", 601)
		cache.Remove("large")
		cache.requireEmpty(t)
	})
}

func TestNoDirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "sources")
	require.NoError(t, os.WriteFile(dir, nil, 0o600))
	cache := New(Config{Dir: dir, MaxMemory: chunkBytes, MaxDisk: 1 << 30, MaxAge: time.Hour})
	s, _ := cache.Open(t.Context(), "run", fetchContent(chunkBytes+1))
	require.ErrorContains(t, s.Wait(t.Context()), dir)
	s.Release()
	cache.requireEmpty(t)
	cache.fetch(t, "run", chunkBytes)
}
