package api_test

import (
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/api"
)

func TestPage(t *testing.T) {
	t.Parallel()
	b := setup(t, withoutPostgres(t), withoutTemporal(t), func(s *api.Server) { s.Config.APITokens = []string{"0123456789abcdef"} })
	for path, file := range map[string]struct{ name, mediaType string }{
		"/":                    {"index.html", "text/html; charset=utf-8"},
		"/page/app.js":         {"app.js", "text/javascript; charset=utf-8"},
		"/page/placeholder.js": {"placeholder.js", "text/javascript; charset=utf-8"},
		"/page/app.css":        {"app.css", "text/css; charset=utf-8"},
		"/page/icon.svg":       {"icon.svg", "image/svg+xml"},
	} {
		want, err := os.ReadFile("page/" + file.name)
		require.NoError(t, err)
		got := b.get(t, path)
		require.Equal(t, http.StatusOK, got.status, got.body)
		require.Equal(t, string(want), got.body)
		require.Equal(t, file.mediaType, got.header.Get("Content-Type"))
		require.Equal(t, "no-cache", got.header.Get("Cache-Control"))
		require.Equal(t, "nosniff", got.header.Get("X-Content-Type-Options"))
		policy := got.header.Get("Content-Security-Policy")
		require.Contains(t, policy, "default-src 'none'; script-src 'self';")
		require.NotContains(t, policy, "unsafe")

		etag := got.header.Get("ETag")
		for _, match := range []string{etag, "W/" + etag, `"other", ` + etag} {
			current := b.do(t, http.MethodGet, path, "", "If-None-Match", match)
			require.Equal(t, http.StatusNotModified, current.status, match)
			require.Empty(t, current.body)
			require.Equal(t, etag, current.header.Get("ETag"))
		}
		require.Equal(t, http.StatusOK, b.do(t, http.MethodGet, path, "", "If-None-Match", `"other"`).status)
		head := b.do(t, http.MethodHead, path, "")
		require.Equal(t, got.header.Get("Content-Length"), head.header.Get("Content-Length"))
		require.Empty(t, head.body)
	}
	requireError(t, b.get(t, "/page/nonsense.js"), http.StatusNotFound)
	requireError(t, b.get(t, "/photos/pending"), http.StatusUnauthorized) // only the page is public
}

// TestPageObeysItsPolicy looks for what the Content-Security-Policy forbids and
// for URLs that fail behind a path prefix.
func TestPageObeysItsPolicy(t *testing.T) {
	t.Parallel()
	html, err := os.ReadFile("page/index.html")
	require.NoError(t, err)
	require.NotRegexp(t, `(?i)<style|\sstyle=|\son\w+=|<script(?:>|[^>]*>[^<])`, string(html))
	require.NotRegexp(t, `(?:href|src|action)="(?:/|https?:)`, string(html))
	script, err := os.ReadFile("page/app.js")
	require.NoError(t, err)
	placeholder, err := os.ReadFile("page/placeholder.js")
	require.NoError(t, err)
	script = append(script, placeholder...)
	require.NotRegexp(t, `innerHTML|outerHTML|insertAdjacentHTML|\beval\(|new Function`, string(script))
	require.NotRegexp(t, "(?:fetch|request|post)\\([\"`]/", string(script))
	for _, match := range regexp.MustCompile(`\$\("([a-z-]+)"\)`).FindAllStringSubmatch(string(script), -1) {
		require.Equal(t, 1, strings.Count(string(html), ` id="`+match[1]+`"`), match[1])
	}
}

// TestPageAdvisesOnFailureCodes requires that the page says for each failure
// code what to do about it.
func TestPageAdvisesOnFailureCodes(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile("page/app.js")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(script), "\nconst advice = {\n")
	require.True(t, found)
	table, _, _ := strings.Cut(rest, "\n};")
	var codes []string
	for _, match := range regexp.MustCompile(`(?m)^  ([a-z_]+): ".+",$`).FindAllStringSubmatch(table, -1) {
		codes = append(codes, match[1])
	}
	require.ElementsMatch(t, failureCodes(t), codes)
}
