package api_test

import (
	"net/http"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/api"
)

func TestUnknownPathsAndMethods(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, path := range []string{"/", "/nonsense", "/photos/pending/", "/photos//pending"} {
		requireError(t, b.get(t, path), http.StatusNotFound)
	}
	for _, test := range []struct{ method, path, allow string }{
		{http.MethodDelete, "/photos/pending", "GET, HEAD"},
		{http.MethodGet, "/photos/process", "POST"},
		{http.MethodGet, "/photos", "POST"},
		{http.MethodPost, "/healthz", "GET, HEAD"},
		{http.MethodOptions, "/thumbnails/x", "GET, HEAD"},
	} {
		got := b.do(t, test.method, test.path, "")
		requireError(t, got, http.StatusMethodNotAllowed)
		require.Equal(t, test.allow, got.header.Get("Allow"), test.path)
	}
}

func TestPanic(t *testing.T) {
	t.Parallel()
	b := setup(t, func(s *api.Server) { s.DB = nil })
	requireError(t, b.get(t, "/photos/pending"), http.StatusInternalServerError, "Internal error")
	require.Contains(t, b.log.String(), "handler panicked")
}

func TestTokens(t *testing.T) {
	t.Parallel()
	const old, current = "0123456789abcdef-old", "0123456789abcdef-new"
	b := setup(t, func(s *api.Server) { s.Config.APITokens = []string{old, current} })
	for _, header := range []string{"", "Bearer", "Bearer ", "Bearer nonsense", "Basic " + current, current, "Bearer " + current + "x", "Bearer " + current[:10]} {
		for _, path := range []string{"/photos/pending", "/photos/process", "/thumbnails/x", "/nonsense", "/healthz/x"} {
			got := b.do(t, http.MethodGet, path, "", "Authorization", header)
			requireError(t, got, http.StatusUnauthorized, "bearer token")
			require.Equal(t, "Bearer", got.header.Get("WWW-Authenticate"))
		}
	}
	for _, token := range []string{old, current} {
		require.Equal(t, http.StatusOK, b.do(t, http.MethodGet, "/photos/pending", "", "Authorization", "Bearer "+token).status)
		require.Equal(t, http.StatusOK, b.do(t, http.MethodGet, "/photos/pending", "", "Authorization", "bearer "+token).status)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		require.Equal(t, http.StatusOK, b.get(t, path).status, "health is for all")
	}
	require.NotContains(t, b.log.String(), current)

	key := uuid.NewString() + "/320x213-0123456789abcdef.jpg"
	require.NoError(t, b.bucket.WriteAll(t.Context(), key, []byte("x"), nil))
	got := b.do(t, http.MethodGet, "/thumbnails/"+key, "", "Authorization", "Bearer "+current)
	require.Contains(t, got.header.Get("Cache-Control"), "private")
}

func TestRequestsAreLogged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.get(t, "/photos/pending?limit=5&token=hunter2")
	require.Contains(t, b.log.String(), "method=GET path=/photos/pending status=200")
	require.NotContains(t, b.log.String(), "hunter2")
}
