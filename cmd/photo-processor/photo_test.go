package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/exitcode"
)

func TestPhoto(t *testing.T) {
	t.Parallel()
	const (
		id     = "8f9a6b1e-0d3c-4c7e-9a55-6f2c1f2b7a10"
		common = `"uuid":"` + id + `","created_at":"2026-01-02T03:04:05.678Z","updated_at":"2026-01-02T03:04:07Z","workflow_id":"process-photo-` + id + `"`
	)
	photos := map[string]string{
		id: `{` + common + `,"url":"https://photos.example/1.jpg?a=1&b=2","status":"completed","workflow_url":"http://temporal.example/1",
			"thumbnails":[{"uuid":"` + id + `","width":64,"height":43,"url":"` + id + `/64x43-0.jpg","created_at":"2026-01-02T03:04:07Z"},
			{"uuid":"` + id + `","width":320,"height":213,"url":"` + id + `/320x213-0.jpg","created_at":"2026-01-02T03:04:07Z"}]}`,
		"00000000-0000-4000-8000-000000000001": `{` + common + `,"url":"https://photos.example/\u001b[2J\t1.jpg","status":"failed","thumbnails":[],
			"failure":{"code":"source_not_found","message":"the source answered 404 Not Found"}}`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for id, body := range photos {
			if r.URL.Path == "/photos/"+id {
				fmt.Fprint(w, body)
				return
			}
		}
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"message":"There is no photo with this UUID"}`)
	}))
	defer server.Close()

	code, stdout, stderr := runCommand(t.Context(), "photo", id, "--api", server.URL+"/")
	require.Zero(t, code, stderr)
	require.Empty(t, stderr)
	require.Equal(t, `uuid       `+id+`
url        https://photos.example/1.jpg?a=1&b=2
status     completed
created    2026-01-02T03:04:05Z
updated    2026-01-02T03:04:07Z
workflow   process-photo-`+id+`
web UI     http://temporal.example/1
thumbnail  64x43 `+server.URL+`/thumbnails/`+id+`/64x43-0.jpg
thumbnail  320x213 `+server.URL+`/thumbnails/`+id+`/320x213-0.jpg
`, stdout)

	code, stdout, stderr = runCommand(t.Context(), "photo", "00000000-0000-4000-8000-000000000001", "--api", server.URL)
	require.Zero(t, code, "the command only shows the failure: %s", stderr)
	require.Contains(t, stdout, "failure   source_not_found: the source answered 404 Not Found\n")
	require.Contains(t, stdout, "url       https://photos.example/\uFFFD[2J\uFFFD1.jpg\n", "a URL cannot clear the terminal")

	code, stdout, stderr = runCommand(t.Context(), "photo", id, "--api", server.URL, "--output", "json")
	require.Zero(t, code, stderr)
	require.JSONEq(t, photos[id], stdout)
	requireSchema(t, "PhotoDetail", stdout)

	unknown := uuid.NewString()
	code, stdout, stderr = runCommand(t.Context(), "photo", unknown, "--api", server.URL)
	require.Equal(t, exitcode.Failure, code)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "there is no photo "+unknown)
}
