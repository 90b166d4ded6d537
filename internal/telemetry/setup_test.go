package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/api"
	"github.com/photo-processor/photo-processor/internal/client"
	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/devstack"
	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
	"github.com/photo-processor/photo-processor/internal/postgres/postgrestest"
	"github.com/photo-processor/photo-processor/internal/renderer/renderertest"
	"github.com/photo-processor/photo-processor/internal/telemetry"
	"github.com/photo-processor/photo-processor/worker"
)

func TestMain(m *testing.M) {
	os.Exit(devstacktest.WithTemporal(func() int { return postgrestest.Main(m) }))
}

// testBundle is an API, a worker and a source.
type testBundle struct {
	api     string // its URL
	metrics string // URL of the API's metrics, if served
	worker  config.Config
	run     func(func(context.Context, config.Config, *slog.Logger) error, config.Config)
	stop    func() // stops all processes and waits
	logs    *logBuffer

	source  string // its URL
	headers chan http.Header
}

func setup(t *testing.T, variables map[string]string) *testBundle {
	t.Helper()
	b := &testBundle{logs: &logBuffer{}, headers: make(chan http.Header, 100)}
	var picture bytes.Buffer
	require.NoError(t, jpeg.Encode(&picture, image.NewGray(image.Rect(0, 0, 640, 426)), nil))
	var asked atomic.Bool
	source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.headers <- r.Header
		switch {
		case strings.HasPrefix(r.URL.Path, "/forbidden"):
			w.WriteHeader(http.StatusForbidden)
		case strings.HasPrefix(r.URL.Path, "/flaky") && !asked.Swap(true):
			w.WriteHeader(http.StatusServiceUnavailable)
		case strings.HasPrefix(r.URL.Path, "/flaky"):
			w.WriteHeader(http.StatusGone)
		case strings.HasPrefix(r.URL.Path, "/moved"):
			http.Redirect(w, r, "/photo.jpg?signature=opensesame", http.StatusFound)
		default:
			_, _ = w.Write(picture.Bytes())
		}
	}))
	t.Cleanup(source.Close)
	b.source = source.URL

	all := map[string]string{
		"DATA_DIR": t.TempDir(), "DATABASE_URL": postgrestest.URL(t), "TASK_QUEUE": t.Name(), "SOURCE_ALLOW_CIDRS": "127.0.0.1/32",
		"RENDERER_PATH": renderertest.Path(t), "RENDER_CONCURRENCY": "1", "HTTP_ADDR": freeAddress(t), "LOG_FORMAT": "json",
	}
	for name, value := range variables {
		all[name] = value
	}
	cfg, err := config.Parse(all)
	require.NoError(t, err)
	b.api, b.worker = "http://"+cfg.HTTPAddr, cfg
	if cfg.MetricsAddr != "" {
		b.metrics = "http://" + cfg.MetricsAddr
		b.worker.MetricsAddr = freeAddress(t)
	}

	ctx, cancel := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	b.run = func(process func(context.Context, config.Config, *slog.Logger) error, cfg config.Config) {
		ended.Go(func() { assert.NoError(t, process(ctx, cfg, telemetry.NewLogger(b.logs, slog.LevelDebug, true))) })
	}
	b.stop = sync.OnceFunc(func() {
		cancel()
		ended.Wait()
	})
	t.Cleanup(b.stop)
	b.run(api.Run, cfg)
	b.run(worker.Run, b.worker)
	require.Eventually(t, func() bool {
		resp, err := devstacktest.HTTPClient.Get(b.api + "/readyz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, time.Minute, 20*time.Millisecond)
	return b
}

func freeAddress(t *testing.T) string {
	t.Helper()
	port, err := devstack.FreePort()
	require.NoError(t, err)
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// process adds and processes a photo with one POST, and waits for its final status.
func (b *testBundle) process(t *testing.T, url string, header http.Header) client.Photo {
	t.Helper()
	added := b.post(t, "/photos", fmt.Sprintf(`{"url":%q}`, url), nil)
	var photos []struct{ UUID uuid.UUID }
	require.NoError(t, json.Unmarshal([]byte(added), &photos))
	b.post(t, "/photos/process", fmt.Sprintf(`[%q]`, photos[0].UUID), header)
	var shown client.Photo
	require.Eventually(t, func() bool {
		var err error
		shown, err = client.New(b.api, "").Photo(t.Context(), photos[0].UUID)
		return err == nil && shown.Status.IsFinal()
	}, time.Minute, 20*time.Millisecond)
	return shown
}

func (b *testBundle) post(t *testing.T, path, body string, header http.Header) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.api+path, strings.NewReader(body))
	require.NoError(t, err)
	for name, values := range header {
		req.Header[name] = values
	}
	resp, err := devstacktest.HTTPClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, resp.StatusCode, string(answer))
	return string(answer)
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := devstacktest.HTTPClient.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

// logBuffer has the lines of both processes.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// lines parses the lines with the message.
func (b *logBuffer) lines(t *testing.T, message string) (lines []map[string]any) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for text := range strings.Lines(b.buf.String()) {
		var line map[string]any
		require.NoError(t, json.Unmarshal([]byte(text), &line), text)
		if line["msg"] == message || message == "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// await waits for a line with the message about the photo: a photo's status is
// visible before its line is.
func (b *logBuffer) await(t *testing.T, message string, id uuid.UUID) (line map[string]any) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, line = range b.lines(t, message) {
			if line["photo"] == id.String() {
				return true
			}
		}
		return false
	}, time.Minute, 5*time.Millisecond, message)
	return line
}
