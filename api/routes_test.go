package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/api"
)

func TestUnknownPathsAndMethods(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, path := range []string{"/page/nonsense", "/page/", "/page/../index.html", "/nonsense", "/photos/pending/", "/photos//pending"} {
		requireError(t, b.get(t, path), http.StatusNotFound)
	}
	for _, test := range []struct{ method, path, allow string }{
		{http.MethodDelete, "/photos/pending", "GET, HEAD"},
		{http.MethodGet, "/photos/process", "POST"},
		{http.MethodDelete, "/photos", "GET, HEAD, POST"},
		{http.MethodPost, "/photos/counts", "GET, HEAD"},
		{http.MethodDelete, "/batches", "GET, HEAD"},
		{http.MethodPost, "/batches/" + uuid.NewString(), "GET, HEAD, DELETE"},
		{http.MethodPost, "/healthz", "GET, HEAD"},
		{http.MethodOptions, "/thumbnails/x", "GET, HEAD"},
	} {
		got := b.do(t, test.method, test.path, "")
		requireError(t, got, http.StatusMethodNotAllowed)
		require.Equal(t, test.allow, got.header.Get("Allow"), test.path)
	}
}

func TestQueryParameters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := uuid.NewString()
	for _, test := range []struct{ method, path, known string }{
		{http.MethodPost, "/photos/process", "status, code, created_before, limit"},
		{http.MethodPost, "/photos/status", "no query parameters"},
		{http.MethodPost, "/photos", "process"},
		{http.MethodGet, "/photos", "status, code, after, limit"},
		{http.MethodGet, "/photos/counts", "no query parameters"},
		{http.MethodGet, "/batches", "after, limit"},
		{http.MethodGet, "/batches/" + id, "no query parameters"},
		{http.MethodDelete, "/batches/" + id, "no query parameters"},
		{http.MethodGet, "/photos/pending", "after, limit"},
		{http.MethodGet, "/photos/processing", "after, limit"},
		{http.MethodGet, "/photos/completed", "after, limit"},
		{http.MethodGet, "/photos/failed", "after, limit"},
		{http.MethodGet, "/photos/" + id, "no query parameters"},
		{http.MethodGet, "/thumbnails/" + id + "/320x213-0123456789abcdef.jpg", "no query parameters"},
		{http.MethodGet, "/healthz", "no query parameters"},
		{http.MethodGet, "/readyz", "verbose"},
	} {
		const body = `{"url":"https://photos.example/1.jpg"}`
		got := b.do(t, test.method, test.path+"?Limit=7", body)
		requireError(t, got, http.StatusBadRequest, `"Limit"`, test.known)
		requireError(t, b.do(t, test.method, test.path+"?limit=%zz", body), http.StatusBadRequest, "cannot be parsed")
		requireError(t, b.do(t, test.method, test.path+"?a;b", body), http.StatusBadRequest, "cannot be parsed")
		if test.known == "no query parameters" {
			continue
		}
		for _, name := range strings.Split(test.known, ", ") {
			got := b.do(t, test.method, test.path+"?"+name+"=1&"+name+"=1", body)
			requireError(t, got, http.StatusBadRequest, name+" is given 2 times")
		}
	}
	require.Equal(t, "[]\n", b.get(t, "/photos").body, "nothing was added")
	require.Equal(t, "[]\n", b.get(t, "/batches").body, "nothing was started")
	require.Equal(t, http.StatusOK, b.get(t, "/readyz?verbose").status)
	require.Equal(t, http.StatusBadRequest, b.do(t, http.MethodHead, "/photos/pending?Limit=7", "").status)
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

// TestWebPages sends requests as a browser does for a page of another origin, or
// for one whose name resolves to this machine.
func TestWebPages(t *testing.T) {
	t.Parallel()
	b := setup(t, func(s *api.Server) { s.Config.HTTPAllowedHosts = []string{"photos.internal"} })
	for name, test := range map[string]struct {
		method, path, host string
		header             []string
		want               int
	}{
		"curl":                       {http.MethodPost, "/photos/process", "", nil, http.StatusCreated},
		"a form of another site":     {http.MethodPost, "/photos/process", "", []string{"Sec-Fetch-Site", "cross-site", "Content-Type", "text/plain"}, http.StatusForbidden},
		"a page of the same site":    {http.MethodPost, "/photos", "", []string{"Sec-Fetch-Site", "same-site"}, http.StatusForbidden},
		"an older browser":           {http.MethodPost, "/photos", "", []string{"Origin", "https://evil.example"}, http.StatusForbidden},
		"a sandboxed page":           {http.MethodPost, "/photos", "", []string{"Origin", "null"}, http.StatusForbidden},
		"a picture in another page":  {http.MethodGet, "/photos/pending", "", []string{"Sec-Fetch-Site", "cross-site"}, http.StatusOK},
		"a page of this API":         {http.MethodPost, "/photos/process", "", []string{"Sec-Fetch-Site", "same-origin"}, http.StatusCreated},
		"localhost":                  {http.MethodGet, "/photos/pending", "LOCALHOST:3000", nil, http.StatusOK},
		"an IPv6 address":            {http.MethodGet, "/photos/pending", "[::1]:3000", nil, http.StatusOK},
		"an address without a port":  {http.MethodGet, "/photos/pending", "127.0.0.1", nil, http.StatusOK},
		"a name that is allowed":     {http.MethodGet, "/photos/pending", "photos.internal.:3000", nil, http.StatusOK},
		"a rebound name":             {http.MethodGet, "/photos/pending", "evil.example:3000", nil, http.StatusForbidden},
		"a rebound name of the page": {http.MethodGet, "/page/app.js", "evil.example:3000", nil, http.StatusForbidden},
		"a rebound name that posts":  {http.MethodPost, "/photos/process", "evil.example", []string{"Sec-Fetch-Site", "same-origin"}, http.StatusForbidden},
		"a name like an address":     {http.MethodGet, "/photos/pending", "127.0.0.1.evil.example", nil, http.StatusForbidden},
		"a probe of a load balancer": {http.MethodGet, "/readyz", "api.example", nil, http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := b.do(t, test.method, test.path, "[]", append(test.header, "Host", test.host)...)
			require.Equal(t, test.want, got.status, got.body)
			if test.want == http.StatusForbidden {
				requireError(t, got, http.StatusForbidden)
			}
		})
	}
	withToken := setup(t, func(s *api.Server) { s.Config.APITokens = []string{"0123456789abcdef"} })
	got := withToken.do(t, http.MethodGet, "/photos/pending", "", "Host", "photos.example", "Authorization", "Bearer 0123456789abcdef")
	require.Equal(t, http.StatusOK, got.status, "a page cannot have the token")
}

func TestRequestsAreLogged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.get(t, "/photos/pending?limit=5&token=hunter2")
	require.Contains(t, b.log.String(), "method=GET path=/photos/pending status=400")
	require.NotContains(t, b.log.String(), "hunter2")
}
