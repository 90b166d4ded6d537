package source

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestFetchGivesUpAtABusyHost fetches from a host that answers nothing: one fetch
// takes the host's only slot, another waits as long as it takes, and a third one
// gives up.
func TestFetchGivesUpAtABusyHost(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *Config) { c.HostConcurrency, c.MaxWaiting, c.MaxHostWait = 1, 1, time.Millisecond })
	entered, release := make(chan struct{}, 2), make(chan struct{})
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		entered <- struct{}{}
		<-release
		_, _ = io.WriteString(w, "photo")
	})
	fetched := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := f.Fetch(t.Context(), server, io.Discard, nil)
			fetched <- err
		}()
	}
	<-entered
	require.Eventually(t, func() bool {
		f.hosts.mu.Lock()
		defer f.hosts.mu.Unlock()
		return f.hosts.waiting == 1
	}, 10*time.Second, time.Millisecond)
	_, err := f.Fetch(t.Context(), server, io.Discard, nil)
	require.ErrorIs(t, err, ErrHostBusy)
	close(release)
	for range 2 {
		require.NoError(t, <-fetched)
	}
	require.Zero(t, f.hosts.waiting)
	require.Empty(t, f.hosts.hosts)
}
