package source

import (
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFetchHostConcurrency(t *testing.T) {
	t.Parallel()
	const limit, total = 2, 6
	f := setup(t, func(c *Config) { c.HostConcurrency, c.MaxWaiting = limit, total })
	f.progressInterval = time.Millisecond
	var mu sync.Mutex
	var running, maxRunning int
	entered, release := make(chan struct{}, total), make(chan struct{})
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		running++
		maxRunning = max(maxRunning, running)
		mu.Unlock()
		entered <- struct{}{}
		<-release
		mu.Lock()
		running--
		mu.Unlock()
		_, _ = io.WriteString(w, "photo")
	})

	// No fetch ends before each has reported its progress several times.
	var fetches, reporting sync.WaitGroup
	reporting.Add(total)
	for range total {
		var reports int
		fetches.Go(func() {
			_, err := f.Fetch(t.Context(), server, io.Discard, func(n int64) {
				if reports++; reports == 5 {
					reporting.Done()
					assert.Zero(t, n)
				}
			})
			assert.NoError(t, err)
		})
	}
	reporting.Wait()
	for range limit {
		<-entered
	}
	f.hosts.mu.Lock()
	assert.Len(t, f.hosts.hosts, 1)
	f.hosts.mu.Unlock()

	// Another host has its own slots.
	serveDNS(t, f, func(string) []string { return []string{allowedAddr} })
	_, _, err := fetch(t, f, "http://other.test:"+urlPort(t, serve(t, textHandler("photo"))))
	require.NoError(t, err)

	close(release)
	fetches.Wait()
	require.Equal(t, limit, maxRunning)
	require.Empty(t, f.hosts.hosts)
}
