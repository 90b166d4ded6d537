package client_test

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/client"
	"github.com/photo-processor/photo-processor/internal/photo"
)

// batchJSON is a batch as the API shows it.
func batchJSON(id uuid.UUID, more string) string {
	return fmt.Sprintf(`{"id":%q,"created_at":"2026-01-01T00:00:00Z","total":5,"pending":1,"processing":1,"completed":1,"failed":2,`+
		`"failures":{"source_timeout":2},"done":false%s}`, id, more)
}

func TestProcessSelected(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		selection client.Selection
		query     map[string]string
	}{
		"a status": {client.Selection{Status: photo.Completed}, map[string]string{"status": "completed"}},
		"everything": {
			client.Selection{
				Status: photo.Failed, Code: photo.SourceTimeout, Limit: 7,
				CreatedBefore: time.Date(2026, 1, 2, 3, 4, 5, 600e6, time.FixedZone("", 3600)),
			},
			map[string]string{"status": "failed", "code": "source_timeout", "limit": "7", "created_before": "2026-01-02T03:04:05.6+01:00"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id := uuid.New()
			var query map[string][]string
			api := newAPI(t, func(w http.ResponseWriter, r *http.Request) {
				query = r.URL.Query()
				body, _ := io.ReadAll(r.Body)
				if r.Method != http.MethodPost || r.URL.Path != "/photos/process" || len(body) > 0 || r.Header.Get("Authorization") != "Bearer token" {
					reply(w, http.StatusTeapot, `{"message":"unexpected request"}`)
					return
				}
				w.Header().Set("Location", "/batches/"+id.String())
				reply(w, http.StatusAccepted, batchJSON(id, `,"query":"status=failed&code=source_timeout"`))
			})
			batch, err := api.ProcessSelected(t.Context(), test.selection)
			require.NoError(t, err)
			require.Equal(t, id, batch.ID)
			require.Equal(t, "status=failed&code=source_timeout", *batch.Query)
			require.Len(t, query, len(test.query))
			for parameter, want := range test.query {
				require.Equal(t, []string{want}, query[parameter])
			}
		})
	}
}

func TestBatch(t *testing.T) {
	t.Parallel()
	id := uuid.New()
	api := newAPI(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Method + " " + r.URL.String() {
		case "GET /batches/" + id.String():
			reply(w, http.StatusOK, batchJSON(id, ""))
		case "DELETE /batches/" + id.String():
			reply(w, http.StatusOK, batchJSON(id, `,"canceled":true`))
		default:
			reply(w, http.StatusNotFound, `{"message":"There is no batch with this ID"}`)
		}
	})
	batch, err := api.Batch(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, []int{5, 1, 1, 1, 2, 2}, []int{batch.Total, batch.Pending, batch.Processing, batch.Completed, batch.Failed, batch.Failures["source_timeout"]})
	require.Nil(t, batch.Canceled)
	batch, err = api.CancelBatch(t.Context(), id)
	require.NoError(t, err)
	require.True(t, *batch.Canceled)

	_, err = api.Batch(t.Context(), uuid.New())
	require.True(t, client.IsNotFound(err), err)
	_, err = api.CancelBatch(t.Context(), uuid.New())
	require.True(t, client.IsNotFound(err), err)
}

// TestBatchesReadsPages reads lists of 2500 batches, and fewer of them.
func TestBatchesReadsPages(t *testing.T) {
	t.Parallel()
	const total = 2500
	id := func(n int) uuid.UUID { return uuid.NewSHA1(uuid.Nil, []byte(strconv.Itoa(n))) }
	for limit, wantRequests := range map[int]int{1: 1, 1000: 1, 1001: 2, total: 3, 10_000: 3} {
		requests := 0
		api := newAPI(t, func(w http.ResponseWriter, r *http.Request) {
			requests++
			size, err := strconv.Atoi(r.URL.Query().Get("limit"))
			if r.Method != http.MethodGet || r.URL.Path != "/batches" || err != nil || size < 1 || size > 1000 {
				reply(w, http.StatusBadRequest, fmt.Sprintf(`{"message":%q}`, r.URL))
				return
			}
			first, _ := strconv.Atoi(r.URL.Query().Get("after"))
			end := min(first+size, total)
			body := ""
			for n := first; n < end; n++ {
				body += "," + batchJSON(id(n), "")
			}
			if end < total {
				w.Header().Set("Link", fmt.Sprintf(`</batches?after=%d&limit=%d>; rel="next"`, end, size))
			}
			reply(w, http.StatusOK, "["+body[1:]+"]")
		})
		batches, err := api.Batches(t.Context(), limit)
		require.NoError(t, err)
		require.Len(t, batches, min(limit, total))
		for n, batch := range batches {
			require.Equal(t, id(n), batch.ID)
		}
		require.Equal(t, wantRequests, requests)
	}
}

// TestBatchResponsesThatTheContractLacks is what a server answers that has other
// successes.
func TestBatchResponsesThatTheContractLacks(t *testing.T) {
	t.Parallel()
	api := newAPI(t, func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusNonAuthoritativeInfo, "{}") })
	for name, request := range map[string]func() error{
		"ProcessSelected": func() error {
			_, err := api.ProcessSelected(t.Context(), client.Selection{Status: photo.Failed})
			return err
		},
		"Batch":       func() error { _, err := api.Batch(t.Context(), uuid.New()); return err },
		"CancelBatch": func() error { _, err := api.CancelBatch(t.Context(), uuid.New()); return err },
		"Batches":     func() error { _, err := api.Batches(t.Context(), 1); return err },
	} {
		require.ErrorContains(t, request(), "unexpected response 203", name)
	}
}
