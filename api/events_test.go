package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/api"
	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/postgres/postgrestest"
)

// fastEvents has changes read often.
func fastEvents(s *api.Server) { s.Config.EventsInterval = 20 * time.Millisecond }

// stream is an open GET /events.
type stream struct {
	lines  *bufio.Scanner
	id     string // of the last event
	cancel context.CancelFunc
}

type sentEvent struct{ name, data string }

// watch opens a stream, and waits for its beginning.
func (b *testBundle) watch(t *testing.T, header ...string) *stream {
	t.Helper()
	resp, cancel := b.openEvents(t, header...)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
	require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
	s := &stream{lines: bufio.NewScanner(resp.Body), cancel: cancel}
	s.lines.Buffer(nil, 8<<20)
	return s
}

func (b *testBundle) openEvents(t *testing.T, header ...string) (*http.Response, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url+"/events", nil)
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := b.transport.RoundTrip(req)
	require.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp, cancel
}

// next waits for the next event.
func (s *stream) next(t *testing.T) (e sentEvent) {
	t.Helper()
	for s.lines.Scan() {
		field, value, _ := strings.Cut(s.lines.Text(), ": ")
		switch field {
		case "event":
			e.name = value
		case "id":
			s.id = value
		case "data":
			e.data = value
		case "":
			if e.name != "" {
				return e
			}
		}
	}
	require.FailNow(t, "the stream ended", "%v", s.lines.Err())
	return e
}

// await waits for an event with this name and these words.
func (s *stream) await(t *testing.T, name string, words ...string) sentEvent {
	t.Helper()
	for {
		e := s.next(t)
		if e.name == name && !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(e.data, word) }) {
			return e
		}
	}
}

func TestEventsOfChangedPhotos(t *testing.T) {
	t.Parallel()
	b := setup(t, fastEvents)
	s := b.watch(t)
	photos, err := b.api.DB.AddPhotos(t.Context(), []string{"https://photos.example/1.jpg?secret=1"})
	require.NoError(t, err)
	id := photos[0].UUID.String()
	e := s.await(t, "photos", id)
	var previews []map[string]any
	require.NoError(t, json.Unmarshal([]byte(e.data), &previews))
	require.Equal(t, "pending", previews[0]["status"])
	require.NotContains(t, e.data, "secret=1", "URLs are redacted")
	s.await(t, "counts", `"pending":1`)

	b.finish(t, newRun(photos[0].UUID), photo.Fail(photo.SourceTimeout, "slow"))
	s.await(t, "photos", id, `"status":"failed"`, `"failure":{"code":"source_timeout"}`)
	s.await(t, "counts", `"failures":{"source_timeout":1}`)
}

func TestEventsOfBatches(t *testing.T) {
	t.Parallel()
	b := setup(t, fastEvents)
	s := b.watch(t)
	photos, err := b.api.DB.AddPhotos(t.Context(), []string{"https://photos.example/1.jpg"})
	require.NoError(t, err)
	batch := uuid.New()
	require.NoError(t, b.api.DB.CreateBatch(t.Context(), batch, []uuid.UUID{photos[0].UUID}))
	s.await(t, "batches", batch.String(), `"pending":1`)
	b.finish(t, newRun(photos[0].UUID), nil)
	s.await(t, "batches", batch.String(), `"completed":1`, `"done":false`)
	require.NoError(t, b.api.DB.EndBatch(t.Context(), batch, false, nil))
	s.await(t, "batches", batch.String(), `"done":true`)
}

// TestEventsAfterAReconnect closes a stream, and continues it.
func TestEventsAfterAReconnect(t *testing.T) {
	t.Parallel()
	b := setup(t, fastEvents)
	add := func() string {
		photos, err := b.api.DB.AddPhotos(t.Context(), []string{"https://photos.example/1.jpg"})
		require.NoError(t, err)
		return photos[0].UUID.String()
	}
	other := b.watch(t) // keeps the API reading changes
	s := b.watch(t)
	s.await(t, "photos", add())
	s.cancel()
	missed := add()
	other.await(t, "photos", missed)
	again := b.watch(t, "Last-Event-ID", s.id)
	again.await(t, "photos", missed)

	for _, unknown := range []string{"x", "1", "9999999999999999", "-1"} {
		require.Equal(t, sentEvent{"reset", "{}"}, b.watch(t, "Last-Event-ID", unknown).next(t), unknown)
	}
}

// TestEventsOfManyPhotos adds more photos than are sent as events.
func TestEventsOfManyPhotos(t *testing.T) {
	t.Parallel()
	b := setup(t, fastEvents)
	s := b.watch(t)
	urls := make([]string, 6000)
	for i := range urls {
		urls[i] = fmt.Sprintf("https://photos.example/%d.jpg", i)
	}
	photos, err := b.api.DB.AddPhotos(t.Context(), urls)
	require.NoError(t, err)
	s.await(t, "reset")
	s.await(t, "counts", `"pending":6000`)
	b.finish(t, newRun(photos[0].UUID), nil)
	for e := (sentEvent{}); e.name != "photos"; e = s.next(t) {
		require.NotEqual(t, "reset", e.name, "clients read the lists again once")
	}
}

func TestEventsHaveALimitOfClients(t *testing.T) {
	t.Parallel()
	b := setup(t, func(s *api.Server) { s.Config.HTTPMaxWatchers = 1 })
	s := b.watch(t)
	requireError(t, b.get(t, "/events"), http.StatusServiceUnavailable, "the limit is 1")
	s.cancel()
	require.Eventually(t, func() bool {
		resp, cancel := b.openEvents(t)
		defer cancel()
		return resp.StatusCode == http.StatusOK
	}, 10*time.Second, 10*time.Millisecond)
}

func TestEventsWithoutPostgres(t *testing.T) {
	t.Parallel()
	b := setup(t, withoutPostgres(t))
	requireError(t, b.get(t, "/events"), http.StatusServiceUnavailable, "The database cannot be reached")
}

func newRun(id uuid.UUID) photo.Run {
	return photo.Run{Photo: id, ID: uuid.NewString(), StartedAt: time.Now()}
}

// TestAStreamOutlivesTheTimeoutsOfRequests watches for longer than any other
// request may take, until the server stops, which need not wait for clients.
func TestAStreamOutlivesTheTimeoutsOfRequests(t *testing.T) {
	t.Parallel()
	databaseURL := postgrestest.URL(t)
	address, stop, ended := serve(t, databaseURL, "HTTP_TIMEOUT=1s", "SHUTDOWN_TIMEOUT=1h", "METRICS_ADDR=127.0.0.1:0", "EVENTS_INTERVAL=100ms")
	db, err := postgres.Open(databaseURL, 1)
	require.NoError(t, err)
	defer db.Close()
	b := &testBundle{api: &api.Server{DB: db}, url: "http://" + address, transport: devstacktest.HTTPClient.Transport}
	s := b.watch(t)
	for began := time.Now(); time.Since(began) < 8*time.Second; {
		photos, err := db.AddPhotos(t.Context(), []string{"https://photos.example/1.jpg"})
		require.NoError(t, err)
		s.await(t, "photos", photos[0].UUID.String())
	}
	stop()
	await(t, ended)
}
