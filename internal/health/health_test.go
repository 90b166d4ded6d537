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
	require.Equal(t, 2, strings.Count(log.String(), "not ready"), "each is logged once")
	expect("/readyz?for=reads", http.StatusServiceUnavailable, `{"message":"Not ready","b":"asleep","a":"unreachable"}`)
	expect("/readyz?for=tests", http.StatusBadRequest, `{"message":"for must be \"reads\""}`)
	readiness.Checks[0].ForWrites = true
	expect("/readyz?for=reads", http.StatusOK, `{"message":"Ready","b":"asleep","a":"unreachable"}`)
	expect("/readyz", http.StatusServiceUnavailable, `{"message":"Not ready","b":"asleep","a":"unreachable"}`)

	needed.Store(nil)
	optional.Store(nil)
	expect("/readyz?verbose", http.StatusOK, `{"message":"Ready","b":"ok","a":"ok","details":{"a":"well"}}`)
	require.Equal(t, 2, strings.Count(log.String(), "reachable again"))
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
