package api_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/api"
)

const pageOrigin = "https://gallery.example"

func withCORS(s *api.Server) { s.Config.HTTPCORSOrigins = []string{pageOrigin} }

// request sends a request without the check against the contract, which does not
// have the headers of CORS.
func (b *testBundle) request(t *testing.T, method, path string, header ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, b.url+path, nil)
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := b.transport.RoundTrip(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp
}

func TestPagesOfAllowedOriginsMayRead(t *testing.T) {
	t.Parallel()
	b := setup(t, withCORS, func(s *api.Server) { s.Config.APITokens = []string{"0123456789abcdef"} })
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		resp := b.request(t, method, "/photos/pending", "Origin", pageOrigin, "Authorization", "Bearer 0123456789abcdef")
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.Equal(t, pageOrigin, resp.Header.Get("Access-Control-Allow-Origin"))
		require.Contains(t, resp.Header.Get("Access-Control-Expose-Headers"), "Link")
		require.Equal(t, "Origin", resp.Header.Get("Vary"))
		require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))

		preflight := b.request(t, http.MethodOptions, "/photos/pending", "Origin", pageOrigin,
			"Access-Control-Request-Method", method, "Access-Control-Request-Headers", "authorization")
		require.Equal(t, http.StatusNoContent, preflight.StatusCode, "a preflight has no token")
		require.Equal(t, method, preflight.Header.Get("Access-Control-Allow-Methods"))
		require.Equal(t, "authorization", preflight.Header.Get("Access-Control-Allow-Headers"))
	}
	resp := b.request(t, http.MethodGet, "/photos/pending", "Authorization", "Bearer 0123456789abcdef")
	require.Equal(t, "Origin", resp.Header.Get("Vary"), "a cache must not give this response to a page")
}

func TestOtherPagesMayNotRead(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]*testBundle{"of another origin": setup(t, withCORS), "without the setting": setup(t)} {
		origin := pageOrigin
		if name == "of another origin" {
			origin = "https://evil.example"
			refused := b.request(t, http.MethodOptions, "/photos/process", "Origin", pageOrigin, "Access-Control-Request-Method", http.MethodPost)
			require.Empty(t, refused.Header.Get("Access-Control-Allow-Origin"), "the allowed one may only read")
			posted := b.request(t, http.MethodPost, "/photos/process", "Origin", pageOrigin, "Sec-Fetch-Site", "cross-site")
			require.Equal(t, http.StatusForbidden, posted.StatusCode)
		}
		resp := b.request(t, http.MethodGet, "/photos/pending", "Origin", origin)
		require.Empty(t, resp.Header.Get("Access-Control-Allow-Origin"), name)
		preflight := b.request(t, http.MethodOptions, "/photos/pending", "Origin", origin, "Access-Control-Request-Method", http.MethodGet)
		require.Empty(t, preflight.Header.Get("Access-Control-Allow-Origin"), name)
	}
}
