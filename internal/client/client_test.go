package client_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/client"
	"github.com/photo-processor/photo-processor/internal/photo"
)

// newAPI serves a handler as if it was the API.
func newAPI(t *testing.T, handler http.HandlerFunc) *client.Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return client.New(server.URL+"/", "token")
}

// reply answers with JSON.
func reply(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func TestProcess(t *testing.T) {
	t.Parallel()
	api := newAPI(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.URL.Path != "/photos/process" || r.Header.Get("Authorization") != "Bearer token" ||
			strings.TrimSpace(string(body)) != `["8f9a6b1e-0d3c-4c7e-9a55-6f2c1f2b7a10","x"]` {
			reply(w, http.StatusTeapot, `{"message":"unexpected request"}`)
			return
		}
		reply(w, http.StatusCreated, `{"accepted":["8f9a6b1e-0d3c-4c7e-9a55-6f2c1f2b7a10"],"rejected":["x"],"added_later":1}`)
	})
	accepted, rejected, err := api.Process(t.Context(), []string{"8f9a6b1e-0d3c-4c7e-9a55-6f2c1f2b7a10", "x"})
	require.NoError(t, err)
	require.Equal(t, []string{"8f9a6b1e-0d3c-4c7e-9a55-6f2c1f2b7a10"}, accepted)
	require.Equal(t, []string{"x"}, rejected)
}

func TestPhotosReadsEveryPage(t *testing.T) {
	t.Parallel()
	for _, status := range photo.Statuses {
		id := uuid.New()
		api := newAPI(t, func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.String() {
			case fmt.Sprintf("/photos/%s?limit=1000", status):
				w.Header().Set("Link", fmt.Sprintf(`</photos/%s?after=2026-01-01T00%%3A00%%3A00Z_x&limit=1000>; rel="next"`, status))
			case fmt.Sprintf("/photos/%s?after=2026-01-01T00%%3A00%%3A00Z_x&limit=1000", status),
				fmt.Sprintf("/photos/%s?limit=1000&after=2026-01-01T00%%3A00%%3A00Z_x", status):
			default:
				reply(w, http.StatusBadRequest, fmt.Sprintf(`{"message":%q}`, r.URL))
				return
			}
			reply(w, http.StatusOK, fmt.Sprintf(`[{"uuid":%q,"url":"","status":%q,"created_at":"2026-01-01T00:00:00Z"}]`, id, status))
		})
		var seen []client.PhotoSummary
		require.NoError(t, api.Photos(t.Context(), status, func(photos []client.PhotoSummary) error {
			seen = append(seen, photos...)
			return nil
		}))
		require.Len(t, seen, 2)
		require.Equal(t, id, seen[1].UUID)
		require.Equal(t, status, seen[1].Status)
	}
	require.ErrorContains(t, client.New("http://127.0.0.1:1", "").Photos(t.Context(), "lost", nil), "lost")
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status            int
		contentType, body string
		want              string
		notFound          bool
	}{
		"a message":               {status: 404, contentType: "application/json", body: `{"message":"There is no photo with this UUID"}`, want: "answered 404: There is no photo", notFound: true},
		"a proxy's page":          {status: 502, contentType: "text/html", body: "<html>", want: "answered 502: Bad Gateway"},
		"another server's page":   {status: 200, contentType: "text/html", body: "<html>", want: "is this an API of photo-processor?"},
		"JSON that is cut short":  {status: 200, contentType: "application/json", body: `{"uuid":`, want: "unexpected end of JSON input"},
		"a success not specified": {status: 202, contentType: "application/json", body: `{}`, want: "unexpected response 202"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := newAPI(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", test.contentType)
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body)
			})
			_, err := api.Photo(t.Context(), uuid.New())
			require.ErrorContains(t, err, test.want)
			require.Equal(t, test.notFound, client.IsNotFound(err))
		})
	}
	_, err := client.New("http://127.0.0.1:1", "").Photo(t.Context(), uuid.New())
	require.ErrorContains(t, err, "the API cannot be reached")
}

func TestAddReturnsPhotosThatWereNotStarted(t *testing.T) {
	t.Parallel()
	id := uuid.New()
	api := newAPI(t, func(w http.ResponseWriter, r *http.Request) {
		reply(w, http.StatusServiceUnavailable, fmt.Sprintf(
			`{"message":"not started","photos":[{"uuid":%q,"url":"https://photos.example/1.jpg","status":"pending","created_at":"2026-01-01T00:00:00Z"}]}`, id))
	})
	photos, err := api.Add(t.Context(), true, "https://photos.example/1.jpg")
	require.ErrorContains(t, err, "answered 503: not started")
	require.Len(t, photos, 1)
	require.Equal(t, id, photos[0].UUID)
}
