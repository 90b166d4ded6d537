package samples

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCacheWritesFileOnce(t *testing.T) {
	t.Parallel()

	c := newCache(t.TempDir())
	const callers = 16
	var arrived sync.WaitGroup
	arrived.Add(callers)
	var writes int // no lock: the race detector finds a concurrent second call
	var done sync.WaitGroup
	for range callers {
		done.Go(func() {
			arrived.Done()
			file, err := c.open(t.Context(), "photo", func(w io.Writer) error {
				arrived.Wait()
				writes++
				_, err := io.WriteString(w, "made")
				return err
			})
			if !assert.NoError(t, err) {
				return
			}
			defer file.Close()
			content, err := io.ReadAll(file)
			assert.NoError(t, err)
			assert.Equal(t, "made", string(content))
		})
	}
	done.Wait()
	assert.Equal(t, 1, writes)
}

func TestCacheRetriesAfterFailure(t *testing.T) {
	t.Parallel()

	c := newCache(t.TempDir())
	broken := errors.New("broken")
	_, err := c.open(t.Context(), "photo", func(w io.Writer) error {
		_, _ = io.WriteString(w, "half of it")
		return broken
	})
	require.ErrorIs(t, err, broken)
	left, err := os.ReadDir(c.dir)
	require.NoError(t, err)
	assert.Empty(t, left)

	file, err := c.open(t.Context(), "photo", func(io.Writer) error { return nil })
	require.NoError(t, err)
	require.NoError(t, file.Close())
}

func TestCacheIgnoresCancellation(t *testing.T) {
	t.Parallel()

	c := newCache(t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan struct{})
	write := func(io.Writer) error {
		cancel()
		<-gone
		return nil
	}
	_, err := c.open(ctx, "photo", write)
	require.ErrorIs(t, err, context.Canceled)
	close(gone)
	file, err := c.open(t.Context(), "photo", func(io.Writer) error { return errors.New("written twice") })
	require.NoError(t, err)
	require.NoError(t, file.Close())
}
