package api_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"gocloud.dev/blob"
	"google.golang.org/grpc"

	"github.com/photo-processor/photo-processor/api"
	"github.com/photo-processor/photo-processor/internal/bucket"
	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/postgres/postgrestest"
)

func TestMain(m *testing.M) {
	os.Exit(devstacktest.WithTemporal(func() int { return postgrestest.Main(m) }))
}

// testBundle is an API with its own database and task queue. No worker polls
// the queue, so that workflows stay open.
type testBundle struct {
	api       *api.Server
	url       string
	transport http.RoundTripper // follows no redirect
	bucket    *blob.Bucket
	log       *lockedBuffer
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

type option func(*api.Server)

func setup(t *testing.T, options ...option) *testBundle {
	t.Helper()
	cfg, err := config.Parse(map[string]string{"DATA_DIR": t.TempDir()})
	require.NoError(t, err)
	cfg.TaskQueue = t.Name() + uuid.NewString()
	thumbnails, err := bucket.Open(t.Context(), "file://"+filepath.Join(t.TempDir(), "thumbnails"))
	require.NoError(t, err)
	temporal := dial(t, os.Getenv("TEMPORAL_ADDRESS"))
	log := &lockedBuffer{}
	server := &api.Server{
		DB: postgrestest.Open(t), Temporal: temporal, Namespace: client.DefaultNamespace, Thumbnails: thumbnails, Config: cfg,
		Log: slog.New(slog.NewTextHandler(log, nil)),
	}
	for _, o := range options {
		o(server)
	}
	listening := httptest.NewServer(server.Handler())
	t.Cleanup(listening.Close)
	return &testBundle{
		api: server, url: listening.URL, transport: listening.Client().Transport,
		bucket: server.Thumbnails, log: log}
}

func dial(t *testing.T, address string, options ...grpc.DialOption) client.Client {
	t.Helper()
	temporal, err := client.NewLazyClient(client.Options{HostPort: address, Logger: quiet{}, ConnectionOptions: client.ConnectionOptions{DialOptions: options}})
	require.NoError(t, err)
	t.Cleanup(temporal.Close)
	return temporal
}

// quiet is a logger for a Temporal client: the tests check its errors.
type quiet struct{}

func (quiet) Debug(string, ...any) {}
func (quiet) Info(string, ...any)  {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}

// withoutTemporal makes Temporal unreachable.
func withoutTemporal(t *testing.T) option {
	return func(s *api.Server) {
		s.Temporal = dial(t, "127.0.0.1:1")
		s.Config.HTTPTimeout = time.Second // bounds the connection attempts
	}
}

// withoutPostgres makes PostgreSQL unreachable.
func withoutPostgres(t *testing.T) option {
	return func(s *api.Server) {
		db, err := postgres.Open("postgres://photos@127.0.0.1:1/photos", 1)
		require.NoError(t, err)
		t.Cleanup(db.Close)
		s.DB = db
	}
}

// response is a response of the API whose body has been read.
type response struct {
	status int
	header http.Header
	body   string
}

// do sends a request, and requires that the contract has the response.
func (b *testBundle) do(t *testing.T, method, path, body string, header ...string) response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, b.url+path, strings.NewReader(body))
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
			continue
		}
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := b.transport.RoundTrip(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	requireDocumented(t, resp, content)
	return response{resp.StatusCode, resp.Header, string(content)}
}

func (b *testBundle) get(t *testing.T, path string) response {
	t.Helper()
	return b.do(t, http.MethodGet, path, "")
}

// post sends the body as curl -d does: with the Content-Type of a form.
func (b *testBundle) post(t *testing.T, path, body string) response {
	t.Helper()
	return b.do(t, http.MethodPost, path, body, "Content-Type", "application/x-www-form-urlencoded")
}

// requireJSON checks a JSON response byte by byte.
func requireJSON(t *testing.T, got response, status int, body string) {
	t.Helper()
	require.Equal(t, body, got.body)
	require.Equal(t, status, got.status)
	require.Equal(t, "application/json", got.header.Get("Content-Type"))
}

// requireError checks that the body is an Error whose message has the words.
func requireError(t *testing.T, got response, status int, words ...string) {
	t.Helper()
	require.Equal(t, status, got.status, got.body)
	require.True(t, strings.HasSuffix(got.body, "\n"))
	var body map[string]string
	require.NoError(t, json.Unmarshal([]byte(got.body), &body), got.body)
	require.Len(t, body, 1)
	for _, word := range words {
		require.Contains(t, body["message"], word)
	}
}
