package samples

import (
	"bytes"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sendRequest returns the handler's response and its body.
func sendRequest(t *testing.T, h http.Handler, method, path string, header ...string) (*http.Response, []byte) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result(), w.Body.Bytes()
}

func TestHandlerServesASample(t *testing.T) {
	t.Parallel()

	const width, height = 160, 130 // drawing the real size takes too long
	h := newHandler(newCache(t.TempDir()), []Sample{{Name: "prints.png", write: func(w io.Writer) error {
		return png.Encode(w, drawPrints(width, height))
	}}})
	answer, body := sendRequest(t, h, "GET", "/photos/prints.png")
	require.Equal(t, 200, answer.StatusCode)
	assert.Equal(t, "image/png", answer.Header.Get("Content-Type"))
	config, err := png.DecodeConfig(bytes.NewReader(body))
	require.NoError(t, err)
	assert.Equal(t, image.Pt(width, height), image.Pt(config.Width, config.Height))

	// http.ServeContent handles HEAD, conditions and ranges.
	head, nothing := sendRequest(t, h, "HEAD", "/photos/prints.png")
	assert.Equal(t, 200, head.StatusCode)
	assert.Equal(t, strconv.Itoa(len(body)), head.Header.Get("Content-Length"))
	assert.Empty(t, nothing)

	etag := answer.Header.Get("ETag")
	require.NotEmpty(t, etag)
	unchanged, _ := sendRequest(t, h, "GET", "/photos/prints.png", "If-None-Match", etag)
	assert.Equal(t, 304, unchanged.StatusCode)

	part, three := sendRequest(t, h, "GET", "/photos/prints.png", "Range", "bytes=1-3", "If-Range", etag)
	assert.Equal(t, 206, part.StatusCode)
	assert.Equal(t, "PNG", string(three))
}

func TestHandlerServesGenerated(t *testing.T) {
	t.Parallel()

	h := Handler(t.TempDir())
	answer, body := sendRequest(t, h, "GET", "/generated/18446744073709551615/120x80.jpg")
	require.Equal(t, 200, answer.StatusCode)
	assert.Equal(t, "image/jpeg", answer.Header.Get("Content-Type"))
	config, err := jpeg.DecodeConfig(bytes.NewReader(body))
	require.NoError(t, err)
	assert.Equal(t, image.Pt(120, 80), image.Pt(config.Width, config.Height))

	_, other := sendRequest(t, h, "GET", "/generated/1/120x80.jpg")
	assert.NotEqual(t, body, other)
	_, elsewhere := sendRequest(t, Handler(t.TempDir()), "GET", "/generated/18446744073709551615/120x80.jpg")
	assert.Equal(t, body, elsewhere)
}

func TestHandlerRefuses(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	h := Handler(dir)
	for path, status := range map[string]int{
		"/photos/forbidden.jpg":    403,
		"/photos/nothing.jpg":      404,
		"/photos/":                 404,
		"/photos/..%2fhandler.go":  404,
		"/":                        404,
		"/generated/1/10x10.png":   404,
		"/generated/1":             404,
		"/generated/one/10x10.jpg": 400,
		"/generated/-1/10x10.jpg":  400,
		"/generated/18446744073709551616/10x10.jpg":    400,
		"/generated/1/10.jpg":                          400,
		"/generated/1/0x10.jpg":                        400,
		"/generated/1/10x-10.jpg":                      400,
		"/generated/1/12001x1.jpg":                     400,
		"/generated/1/1x12001.jpg":                     400,
		"/generated/1/6001x4000.jpg":                   400,
		"/generated/1/99999999999999999999x1.jpg":      400,
		"/generated/1/4294967297x4294967297.jpg":       400,
		"/generated/..%2f..%2fetc/10x10.jpg":           400,
		"/generated/1/..%2f..%2f..%2fetc%2fpasswd.jpg": 400,
	} {
		for _, method := range []string{"GET", "HEAD"} {
			answer, _ := sendRequest(t, h, method, path)
			assert.Equal(t, status, answer.StatusCode, "%s %s", method, path)
		}
	}
	answer, _ := sendRequest(t, h, "POST", "/photos/mountains.jpg")
	assert.Equal(t, 405, answer.StatusCode)

	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, entries, "no file is written")
}

func TestHandlerCachesFiles(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	sendRequest(t, Handler(dir), "GET", "/generated/007/60x40.jpg")
	files, err := filepath.Glob(filepath.Join(dir, cacheVersion, "*"))
	require.NoError(t, err)
	require.Equal(t, []string{filepath.Join(dir, cacheVersion, "7-60x40.jpg")}, files)

	require.NoError(t, os.WriteFile(files[0], []byte("kept"), 0o600))
	_, body := sendRequest(t, Handler(dir), "GET", "/generated/7/60x40.jpg")
	assert.Equal(t, "kept", string(body))
}

func TestHandlerWriteError(t *testing.T) {
	t.Parallel()

	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	answer, body := sendRequest(t, Handler(file), "GET", "/generated/1/6x4.jpg")
	assert.Equal(t, 500, answer.StatusCode)
	assert.NotContains(t, string(body), file)
}
