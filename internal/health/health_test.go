package health_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/health"
)

func ask(handler http.Handler, path string) (int, string) {
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
	return recorder.Code, strings.TrimSpace(recorder.Body.String())
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testReadiness) // its clock jumps over sleeps
}

func testReadiness(t *testing.T) {
	var log bytes.Buffer
	var needed, optional atomic.Pointer[error] // nil: it is there
	ping := func(err *atomic.Pointer[error]) func(context.Context) error {
		return func(context.Context) error {
			if e := err.Load(); e != nil {
				return *e
			}
			return nil
		}
	}
	readiness := &health.Readiness{Log: slog.New(slog.NewTextHandler(&log, nil)), Checks: []health.Check{
		{Name: "b", Title: "the B", Ping: ping(&needed), Missing: "asleep"},
		{Name: "a", Title: "the A", Ping: ping(&optional), Optional: true, Details: func() any { return "well" }},
	}}
	expect := func(path string, status int, answer string) {
		t.Helper()
		time.Sleep(time.Second) // the results are that long used again
		gotStatus, got := ask(readiness, path)
		require.Equal(t, answer, got, "in this order")
		require.Equal(t, status, gotStatus)
	}
	expect("/readyz", http.StatusOK, `{"message":"Ready","b":"ok","a":"ok"}`)
	require.Empty(t, log.String())

	away := errors.New("no route to 10.0.0.1")
	optional.Store(&away)
	expect("/readyz", http.StatusOK, `{"message":"Ready","b":"ok","a":"unreachable"}`)
	needed.Store(&away)
	for range 3 {
		expect("/readyz?verbose", http.StatusServiceUnavailable, `{"message":"Not ready","b":"asleep","a":"unreachable"}`)
	}
	readiness.Verbose = true
	expect("/readyz", http.StatusServiceUnavailable, `{"message":"Not ready","b":"asleep","a":"unreachable"}`)
	expect("/readyz?verbose", http.StatusServiceUnavailable,
		`{"message":"Not ready","b":"asleep","a":"unreachable","details":{"b":"no route to 10.0.0.1","a":"no route to 10.0.0.1"}}`)
	require.Equal(t, 2, strings.Count(log.String(), " is away"), "each is logged once")
	expect("/readyz?for=reads", http.StatusServiceUnavailable, `{"message":"Not ready","b":"asleep","a":"unreachable"}`)
	expect("/readyz?for=tests", http.StatusBadRequest, `{"message":"for must be \"reads\""}`)
	readiness.Checks[0].ForWrites = true
	expect("/readyz?for=reads", http.StatusOK, `{"message":"Ready","b":"asleep","a":"unreachable"}`)
	expect("/readyz", http.StatusServiceUnavailable, `{"message":"Not ready","b":"asleep","a":"unreachable"}`)

	needed.Store(nil)
	optional.Store(nil)
	expect("/readyz?verbose", http.StatusOK, `{"message":"Ready","b":"ok","a":"ok","details":{"a":"well"}}`)
	require.Equal(t, 2, strings.Count(log.String(), " is back"))
	require.Regexp(t, `msg="the B is back" dependency=b away_for=\d+s\n`, log.String())
}

func TestRequestsShareTheChecks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var pings atomic.Int32
		readiness := &health.Readiness{Log: slog.New(slog.DiscardHandler), Checks: []health.Check{{Name: "a", Ping: func(context.Context) error {
			pings.Add(1)
			return nil
		}}}}
		for round := range int32(2) {
			var group sync.WaitGroup
			for range 50 {
				group.Go(func() {
					status, _ := ask(readiness, "/readyz")
					require.Equal(t, http.StatusOK, status)
				})
			}
			group.Wait()
			require.Equal(t, round+1, pings.Load())
			time.Sleep(time.Second)
		}
	})
}

// TestWatch logs an outage without any request.
func TestWatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var away atomic.Bool
		readiness := &health.Readiness{Log: slog.New(slog.NewTextHandler(&log, nil)), Checks: []health.Check{
			{Name: "postgresql", Title: "PostgreSQL", Ping: func(context.Context) error {
				if away.Load() {
					return errors.New("connection refused")
				}
				return nil
			}},
			{Name: "task_queue", Ping: func(context.Context) error { return errors.New("not polled") }}, // is not logged
		}}
		ctx, stop := context.WithCancel(t.Context())
		go readiness.Watch(ctx, 5*time.Second)
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		require.Empty(t, log.String())
		away.Store(true)
		time.Sleep(3 * time.Minute)
		away.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		require.Len(t, lines, 2)
		require.Contains(t, lines[0], `level=WARN msg="PostgreSQL is away" dependency=postgresql error="connection refused"`)
		require.Contains(t, lines[1], `level=INFO msg="PostgreSQL is back" dependency=postgresql away_for=3m0s`)
		stop()
		synctest.Wait()
	})
}
