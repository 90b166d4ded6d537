package worker_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/devstack"
	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
)

// readyz returns the answer of /readyz once it has the status.
func (b *testBundle) readyz(t *testing.T, query string, status int) (answer map[string]any) {
	t.Helper()
	require.Eventually(t, func() bool {
		resp, err := devstacktest.HTTPClient.Get("http://" + b.cfg.MetricsAddr + "/readyz" + query)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		answer = nil
		return json.NewDecoder(resp.Body).Decode(&answer) == nil && resp.StatusCode == status
	}, time.Minute, 20*time.Millisecond)
	return answer
}

func TestReadiness(t *testing.T) {
	b := setup(t)
	close(b.release)
	port, err := devstack.FreePort()
	require.NoError(t, err)
	b.cfg.MetricsAddr = fmt.Sprintf("127.0.0.1:%d", port)
	cfg := b.cfg

	b.cfg.DatabaseURL = "postgres://photos@127.0.0.1:1/photos"
	stop := b.work(t)
	require.Equal(t, map[string]any{
		"message": "Not ready", "postgresql": "unreachable", "temporal": "ok", "source_cache_directory": "ok", "thumbnails_bucket": "ok",
		"renderer": "ok", "task_queue": "not polled",
	}, b.readyz(t, "", http.StatusServiceUnavailable), "it waits for PostgreSQL")
	details := b.readyz(t, "?verbose", http.StatusServiceUnavailable)["details"].(map[string]any)
	require.Contains(t, details["postgresql"], "127.0.0.1:1")
	stop()

	b.cfg = cfg
	stop = b.work(t)
	require.Equal(t, map[string]any{
		"message": "Ready", "postgresql": "ok", "temporal": "ok", "source_cache_directory": "ok", "thumbnails_bucket": "ok", "renderer": "ok", "task_queue": "ok",
	}, b.readyz(t, "", http.StatusOK))
	details = b.readyz(t, "?verbose", http.StatusOK)["details"].(map[string]any)
	require.Contains(t, details["renderer"].(map[string]any)["sandbox"], "seccomp")

	require.NoError(t, os.RemoveAll(filepath.Join(cfg.DataDir, "thumbnails")))
	answer := b.readyz(t, "", http.StatusServiceUnavailable)
	require.Equal(t, "unreachable", answer["thumbnails_bucket"])
	require.Equal(t, "ok", answer["postgresql"])
	stop()
	_, err = devstacktest.HTTPClient.Get("http://" + cfg.MetricsAddr + "/healthz")
	require.ErrorIs(t, err, syscall.ECONNREFUSED, "the listener is gone")
}
