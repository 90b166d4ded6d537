package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/client"
	"github.com/photo-processor/photo-processor/internal/exitcode"
)

// watchedAPI is an API whose photos have a status after a number of requests
// for statuses.
type watchedAPI struct {
	requests atomic.Int32                              // for statuses
	answer   func(n int32, id uuid.UUID) string        // a JSON object, or "" for no such photo
	away     func(n int32, w http.ResponseWriter) bool // whether it has answered with an outage
}

func (a *watchedAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var ids []uuid.UUID
	_ = json.NewDecoder(r.Body).Decode(&ids)
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Path == "/photos/process" {
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(map[string]any{"accepted": ids, "rejected": []string{}})
		return
	}
	n := a.requests.Add(1)
	if a.away != nil && a.away(n, w) {
		return
	}
	statuses := []string{}
	for _, id := range ids {
		if s := a.answer(n, id); s != "" {
			statuses = append(statuses, s)
		}
	}
	_, _ = fmt.Fprintf(w, "[%s]", strings.Join(statuses, ","))
}

// status returns a PhotoStatus in JSON that was updated in the year.
func status(id uuid.UUID, status string, year int, failure string) string {
	return fmt.Sprintf(`{"uuid":%q,"status":%q,"updated_at":"%d-01-01T00:00:00Z"%s}`, id, status, year, failure)
}

// process runs process --watch with a short interval.
func (a *watchedAPI) process(t *testing.T, ids []uuid.UUID) (stdout, stderr string, err error) {
	t.Helper()
	return a.processAs(t, outputText, ids)
}

func (a *watchedAPI) processAs(t *testing.T, output outputFormat, ids []uuid.UUID) (stdout, stderr string, err error) {
	t.Helper()
	server := httptest.NewServer(a)
	defer server.Close()
	inputs := make([]string, len(ids))
	for i, id := range ids {
		inputs[i] = id.String()
	}
	var out, errs bytes.Buffer
	p := processing{api: client.New(server.URL, ""), output: output, out: &out, status: &errs, before: map[uuid.UUID]time.Time{}, interval: time.Millisecond, batch: batchSize}
	err = p.run(t.Context(), inputs, false, true)
	return out.String(), errs.String(), err
}

func randomIDs(n int) []uuid.UUID {
	ids := make([]uuid.UUID, n)
	for i := range ids {
		ids[i] = uuid.New()
	}
	return ids
}

// TestWatchManyPhotos watches 10,000 photos, which complete one request after
// they are posted: 10 requests before, and 20 to watch.
func TestWatchManyPhotos(t *testing.T) {
	t.Parallel()
	a := &watchedAPI{answer: func(n int32, id uuid.UUID) string {
		if n <= 20 {
			return status(id, "processing", 2025, "")
		}
		return status(id, "completed", 2026, "")
	}}
	out, _, err := a.process(t, randomIDs(10_000))
	require.NoError(t, err)
	require.Equal(t, 10_000, strings.Count(out, " completed\n"))
	require.EqualValues(t, 30, a.requests.Load())
}

func TestWatchResults(t *testing.T) {
	t.Parallel()
	ids := randomIDs(4)
	a := &watchedAPI{answer: func(n int32, id uuid.UUID) string {
		switch {
		case id == ids[0]:
			return ""
		case n < 4: // of an earlier run
			return status(id, "completed", 2025, "")
		case id == ids[1]:
			return status(id, "completed", 2026, "")
		case id == ids[2]:
			return status(id, "failed", 2026, `,"failure":{"code":"canceled","message":"processing was canceled"}`)
		}
		return status(id, "failed", 2026, `,"failure":{"code":"canceled","message":"the workflow was terminated"}`)
	}}
	out, _, err := a.process(t, ids)
	require.ErrorIs(t, err, exitcode.ErrReported)
	for _, want := range []string{
		ids[0].String() + " failed: there is no such photo\n",
		ids[1].String() + " completed\n",
		ids[2].String() + " failed: canceled: processing was canceled\n",
		ids[3].String() + " failed: canceled: the workflow was terminated\n",
	} {
		require.Equal(t, 1, strings.Count(out, want), "%s", out)
	}
}

// TestProcessJSON watches a photo that completes, one that fails and one that
// does not exist.
func TestProcessJSON(t *testing.T) {
	t.Parallel()
	ids := randomIDs(3)
	a := &watchedAPI{answer: func(n int32, id uuid.UUID) string {
		switch {
		case id == ids[2]:
			return ""
		case n < 3:
			return status(id, "processing", 2025, "")
		case id == ids[0]:
			return status(id, "completed", 2026, "")
		}
		return status(id, "failed", 2026, `,"failure":{"code":"canceled","message":"a & b"}`)
	}}
	out, errs, err := a.processAs(t, outputJSON, ids)
	require.ErrorIs(t, err, exitcode.ErrReported)
	require.Empty(t, errs)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.Len(t, lines, 4, out)
	require.JSONEq(t, fmt.Sprintf(`{"accepted":[%q,%q,%q],"rejected":[]}`, ids[0], ids[1], ids[2]), lines[0])
	requireSchema(t, "ProcessResult", lines[0])
	require.ElementsMatch(t, []string{
		status(ids[0], "completed", 2026, ""),
		status(ids[1], "failed", 2026, `,"failure":{"code":"canceled","message":"a & b"}`),
		fmt.Sprintf(`{"uuid":%q,"status":"failed","failure":{"code":"photo_not_found","message":"there is no such photo"}}`, ids[2]),
	}, lines[1:])
}

// TestWatchOutlivesAnOutage lets the API answer 503, then end connections.
func TestWatchOutlivesAnOutage(t *testing.T) {
	t.Parallel()
	a := &watchedAPI{
		answer: func(n int32, id uuid.UUID) string {
			if n < 8 {
				return status(id, "processing", 2025, "")
			}
			return status(id, "completed", 2026, "")
		},
		away: func(n int32, w http.ResponseWriter) bool {
			switch n {
			case 2, 3:
				w.WriteHeader(http.StatusServiceUnavailable)
				return true
			case 4, 5:
				panic(http.ErrAbortHandler)
			}
			return false
		},
	}
	out, errs, err := a.process(t, randomIDs(1))
	require.NoError(t, err)
	require.Contains(t, out, " completed\n")
	require.Equal(t, 1, strings.Count(errs, "waiting until it can be used again\n"), errs)
	require.Equal(t, 1, strings.Count(errs, "the API can be used again\n"), errs)
	require.Equal(t, 2, strings.Count(errs, "\n"), errs)
}

// TestProcessReadsStdin passes more UUIDs than one request posts, beside one on
// the command line.
func TestProcessReadsStdin(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(&watchedAPI{})
	defer server.Close()
	run := func(stdin io.Reader, args ...string) (code int, stdout, stderr string) {
		root := newRoot()
		root.SetIn(stdin)
		var out, errs bytes.Buffer
		code = exitcode.Run(t.Context(), root, append([]string{"process", "--api", server.URL}, args...), &out, &errs)
		return code, out.String(), errs.String()
	}
	var lines, want strings.Builder
	argument := uuid.New()
	fmt.Fprintln(&want, argument, "accepted")
	for _, id := range randomIDs(batchSize + 1) {
		fmt.Fprintln(&lines, id)
		fmt.Fprintln(&want, id, "accepted")
	}
	code, out, errs := run(strings.NewReader(lines.String()), argument.String(), "-")
	require.Zero(t, code, errs)
	require.Equal(t, want.String(), out)

	code, out, errs = run(strings.NewReader("\n"), "-")
	require.Zero(t, code, errs)
	require.Equal(t, "There are no UUIDs on stdin.\n", out)

	code, out, errs = run(strings.NewReader("\n"), "-", "--output", "json")
	require.Zero(t, code, errs)
	require.Empty(t, out)
	require.Equal(t, "There are no UUIDs on stdin.\n", errs)

	code, out, errs = run(iotest.ErrReader(io.ErrUnexpectedEOF), "-")
	require.Equal(t, exitcode.Failure, code)
	require.Empty(t, out)
	require.Equal(t, "photo-processor: reading UUIDs from stdin: unexpected EOF\n", errs)
}

// TestInterruptedWhileReadingStdin has a stdin on which nothing is ever written.
func TestInterruptedWhileReadingStdin(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	defer w.Close()
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	_, err := readInputs(ctx, r)
	require.ErrorIs(t, err, exitcode.ErrInterrupted)
}
