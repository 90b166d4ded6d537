package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/client"
	"github.com/photo-processor/photo-processor/internal/exitcode"
	"github.com/photo-processor/photo-processor/internal/photo"
)

const testBatchID = "3d9e3a1c-52f5-4f0e-8a43-0f6f4c3f8a02"

// batchAPI is an API with one batch, of which each request reads the next state.
type batchAPI struct {
	states   []string                                  // the batch in JSON; the last one stays
	away     func(n int32, w http.ResponseWriter) bool // whether it has answered request n with an error
	requests atomic.Int32                              // for the batch
	started  atomic.Value                              // the query of POST /photos/process
	canceled atomic.Bool
}

func batchJSON(total, completed int, failures map[string]int, more string) string {
	failed := 0
	for _, n := range failures {
		failed += n
	}
	if failures == nil {
		failures = map[string]int{}
	}
	counts, _ := json.Marshal(failures)
	return fmt.Sprintf(`{"id":%q,"created_at":"2026-01-02T03:04:05.678Z","total":%d,"pending":%d,"processing":0,"completed":%d,"failed":%d,"failures":%s%s}`,
		testBatchID, total, total-completed-failed, completed, failed, counts, more)
}

func (a *batchAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	status := http.StatusOK
	switch r.Method + " " + r.URL.Path {
	case "POST /photos/process":
		if body, _ := io.ReadAll(r.Body); len(body) > 0 {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		a.started.Store(r.URL.RawQuery)
		w.Header().Set("Location", "/batches/"+testBatchID)
		status = http.StatusAccepted
	case "DELETE /batches/" + testBatchID:
		a.canceled.Store(true)
	case "GET /batches/" + testBatchID:
	case "GET /batches":
		fmt.Fprintf(w, "[%s]", strings.Join(a.states, ","))
		return
	default:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"message":"There is no batch with this ID"}`)
		return
	}
	n := a.requests.Add(1)
	if a.away != nil && a.away(n, w) {
		return
	}
	w.WriteHeader(status)
	fmt.Fprint(w, a.states[min(int(n), len(a.states))-1])
}

func (a *batchAPI) serve(t *testing.T) (url string) {
	t.Helper()
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	return server.URL
}

// requireSchema validates JSON against a schema of api/openapi.yaml.
func requireSchema(t *testing.T, schema, body string) {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile("../../api/openapi.yaml")
	require.NoError(t, err)
	var value any
	require.NoError(t, json.Unmarshal([]byte(body), &value))
	require.NoError(t, doc.Components.Schemas[schema].Value.VisitJSON(value), body)
}

// processBulk runs process --failed --watch with a short interval.
func (a *batchAPI) processBulk(t *testing.T, output outputFormat) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	p := processing{api: client.New(a.serve(t), ""), output: output, out: &out, status: &errs, interval: time.Millisecond}
	err = p.runBulk(t.Context(), client.Selection{Status: photo.Failed}, true)
	return out.String(), errs.String(), err
}

// growing is a batch that grows, and is finished for a moment before more photos
// are added.
var growing = []string{
	batchJSON(0, 0, nil, `,"done":false`),
	batchJSON(2, 1, nil, `,"done":false`),
	batchJSON(2, 2, nil, `,"done":false`),
	batchJSON(6, 2, map[string]int{"source_timeout": 1}, `,"done":false`),
	batchJSON(6, 2, map[string]int{"source_timeout": 2, "invalid_url": 1, "canceled": 1}, `,"done":true,"done_at":"2026-01-02T03:05:00Z"`),
}

func TestProcessBulk(t *testing.T) {
	t.Parallel()
	for query, args := range map[string][]string{
		"status=failed":                                            {"--failed"},
		"status=completed":                                         {"--completed"},
		"status=failed&code=internal":                              {"--failed", "--code", "internal"},
		"status=completed&limit=7":                                 {"--completed", "--limit", "7"},
		"status=failed&code=canceled&limit=100":                    {"--failed", "--code=canceled", "--limit=100"},
		"status=completed&created_before=2026-01-02T03%3A04%3A05Z": {"--completed", "--created-before", "2026-01-02T03:04:05Z"},
	} {
		a := &batchAPI{states: growing}
		code, stdout, stderr := runCommand(t.Context(), append([]string{"process", "--api", a.serve(t)}, args...)...)
		require.Zero(t, code, stderr)
		require.Equal(t, testBatchID+"\n", stdout)
		require.Empty(t, stderr)
		require.Equal(t, query, a.started.Load())
	}
}

func TestProcessBulkWatches(t *testing.T) {
	t.Parallel()
	a := &batchAPI{states: growing}
	out, errs, err := a.processBulk(t, outputText)
	require.ErrorIs(t, err, exitcode.ErrReported)
	require.Equal(t, testBatchID+"\nfailed: source_timeout: 2\nfailed: canceled: 1\nfailed: invalid_url: 1\n2 completed, 4 failed\n", out)
	require.Empty(t, errs)
	require.EqualValues(t, len(growing), a.requests.Load(), "one request for each state")

	out, _, err = (&batchAPI{states: growing}).processBulk(t, outputJSON)
	require.ErrorIs(t, err, exitcode.ErrReported)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.Len(t, lines, 2, out)
	requireSchema(t, "Batch", lines[0])
	requireSchema(t, "Batch", lines[1])
	require.JSONEq(t, growing[0], lines[0])
	require.JSONEq(t, growing[len(growing)-1], lines[1])

	a = &batchAPI{states: []string{batchJSON(0, 0, nil, `,"done":false`), batchJSON(0, 0, nil, `,"done":true`)}}
	out, _, err = a.processBulk(t, outputText)
	require.NoError(t, err)
	require.Equal(t, testBatchID+"\n0 completed, 0 failed\n", out)

	a = &batchAPI{states: []string{batchJSON(3, 3, nil, `,"done":true,"canceled":true`)}}
	out, _, err = a.processBulk(t, outputText)
	require.NoError(t, err)
	require.Equal(t, testBatchID+"\n3 completed, 0 failed; the batch was canceled\n", out)
}

// TestWatchingABatchOutlivesAnOutage lets the API answer 503, then end
// connections, then answer, then lose the batch.
func TestWatchingABatchOutlivesAnOutage(t *testing.T) {
	t.Parallel()
	a := &batchAPI{
		states: []string{batchJSON(1, 0, nil, `,"done":false`)},
		away: func(n int32, w http.ResponseWriter) bool {
			switch {
			case n == 2, n == 3:
				w.WriteHeader(http.StatusServiceUnavailable)
				return true
			case n == 4, n == 5:
				panic(http.ErrAbortHandler)
			case n >= 8:
				w.WriteHeader(http.StatusNotFound)
				return true
			}
			return false
		},
	}
	_, errs, err := a.processBulk(t, outputText)
	require.ErrorContains(t, err, "answered 404")
	require.Equal(t, 1, strings.Count(errs, "waiting until it can be used again\n"), errs)
	require.Equal(t, 1, strings.Count(errs, "the API can be used again\n"), errs)
	require.Equal(t, 2, strings.Count(errs, "\n"), errs)
}

// TestProgressBar draws the bar of a batch that grows.
func TestProgressBar(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := newProgress(&out, true)
	p.update(0, 0, false)
	require.Empty(t, out.String(), "nothing to show")
	p.update(1, 2, false)
	require.Contains(t, out.String(), "(1/2, ")
	require.Contains(t, out.String(), " photos/")
	p.update(2, 2, false)
	require.NotContains(t, out.String(), "(2/2, ", "more photos may follow")
	p.update(2, 6, false)
	require.Contains(t, out.String(), "(2/6, ")
	require.NotContains(t, out.String(), "\n")
	p.update(4, 4, true)
	require.Contains(t, out.String(), "(4/4, ")
	require.Equal(t, 1, strings.Count(out.String(), "\n"))
}

func TestBatches(t *testing.T) {
	t.Parallel()
	a := &batchAPI{states: []string{
		batchJSON(10, 2, nil, `,"done":false,"query":"status=failed&code=source_timeout"`),
		batchJSON(3, 1, map[string]int{"internal": 2}, `,"done":true`),
		batchJSON(3, 1, nil, `,"done":false,"canceled":true`),
		batchJSON(1, 1, nil, `,"done":true,"canceled":true`),
	}}
	url := a.serve(t)
	code, stdout, stderr := runCommand(t.Context(), "batches", "--api", url)
	require.Zero(t, code, stderr)
	require.Equal(t, `ID                                    CREATED               STATE      TOTAL  PENDING  PROCESSING  COMPLETED  FAILED  QUERY
3d9e3a1c-52f5-4f0e-8a43-0f6f4c3f8a02  2026-01-02T03:04:05Z  running    10     8        0           2          0       status=failed&code=source_timeout
3d9e3a1c-52f5-4f0e-8a43-0f6f4c3f8a02  2026-01-02T03:04:05Z  done       3      0        0           1          2       -
3d9e3a1c-52f5-4f0e-8a43-0f6f4c3f8a02  2026-01-02T03:04:05Z  canceling  3      2        0           1          0       -
3d9e3a1c-52f5-4f0e-8a43-0f6f4c3f8a02  2026-01-02T03:04:05Z  canceled   1      0        0           1          0       -
`, stdout)

	code, stdout, stderr = runCommand(t.Context(), "batches", "--api", url, "--output", "json")
	require.Zero(t, code, stderr)
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	require.Len(t, lines, len(a.states))
	for i, line := range lines {
		require.JSONEq(t, a.states[i], line)
		requireSchema(t, "Batch", line)
	}

	url = (&batchAPI{}).serve(t)
	code, stdout, _ = runCommand(t.Context(), "batches", "--api", url)
	require.Zero(t, code)
	require.Equal(t, "There are no batches.\n", stdout)
	code, stdout, _ = runCommand(t.Context(), "batches", "--api", url, "--output", "json")
	require.Zero(t, code)
	require.Empty(t, stdout)
}

func TestOneBatch(t *testing.T) {
	t.Parallel()
	running := batchJSON(6, 2, map[string]int{"source_timeout": 2, "invalid_url": 1}, `,"done":false,"query":"status=failed"`)
	done := batchJSON(6, 3, map[string]int{"source_timeout": 2, "invalid_url": 1}, `,"done":true,"done_at":"2026-01-02T03:05:00Z","query":"status=failed"`)
	const text = `id                3d9e3a1c-52f5-4f0e-8a43-0f6f4c3f8a02
created           2026-01-02T03:04:05Z
state             running
query             status=failed
total             6
pending           1
processing        0
completed         2
failed            3
  source_timeout  2
  invalid_url     1
`
	a := &batchAPI{states: []string{running}}
	code, stdout, stderr := runCommand(t.Context(), "batches", testBatchID, "--api", a.serve(t))
	require.Zero(t, code, "the command only shows failures: %s", stderr)
	require.Equal(t, text, stdout)

	a = &batchAPI{states: []string{running}}
	code, stdout, stderr = runCommand(t.Context(), "batches", testBatchID, "--api", a.serve(t), "--output", "json")
	require.Zero(t, code, stderr)
	require.JSONEq(t, running, stdout)

	a = &batchAPI{states: []string{running, done}}
	code, stdout, stderr = runCommand(t.Context(), "batches", testBatchID, "--api", a.serve(t), "--watch")
	require.Equal(t, exitcode.Failure, code)
	require.Contains(t, stdout, "state             done\ndone              2026-01-02T03:05:00Z\n")
	require.Empty(t, stderr)

	a = &batchAPI{states: []string{batchJSON(1, 1, nil, `,"done":true`)}}
	code, _, stderr = runCommand(t.Context(), "batches", testBatchID, "--api", a.serve(t), "--watch")
	require.Zero(t, code, stderr)

	a = &batchAPI{states: []string{batchJSON(3, 1, nil, `,"done":false,"canceled":true`)}}
	code, stdout, stderr = runCommand(t.Context(), "batches", testBatchID, "--api", a.serve(t), "--cancel")
	require.Zero(t, code, stderr)
	require.True(t, a.canceled.Load())
	require.Contains(t, stdout, "state       canceling\n")

	unknown := uuid.NewString()
	for _, flag := range []string{"--output=text", "--watch", "--cancel"} {
		code, stdout, stderr = runCommand(t.Context(), "batches", unknown, "--api", a.serve(t), flag)
		require.Equal(t, exitcode.Failure, code)
		require.Empty(t, stdout)
		require.Contains(t, stderr, "there is no batch "+unknown)
	}
}
