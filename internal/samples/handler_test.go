package samples

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// ask sends a request to a handler and reads the whole answer.
func ask(t *testing.T, h http.Handler, method, path string, header ...string) (*http.Response, []byte) {
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

	const width, height = 160, 130 // the real ones take too long
	h := newHandler(newCache(t.TempDir()), []Sample{{Name: "prints.png", write: func(w io.Writer) error {
		return png.Encode(w, drawPrints(width, height))
	}}})
	answer, body := ask(t, h, "GET", "/photos/prints.png")
	require.Equal(t, 200, answer.StatusCode)
	assert.Equal(t, "image/png", answer.Header.Get("Content-Type"))
	config, err := png.DecodeConfig(bytes.NewReader(body))
	require.NoError(t, err)
	assert.Equal(t, image.Pt(width, height), image.Pt(config.Width, config.Height))

	// The rest is for http.ServeContent to do, if it is given what it needs.
	head, nothing := ask(t, h, "HEAD", "/photos/prints.png")
	assert.Equal(t, 200, head.StatusCode)
	assert.Equal(t, strconv.Itoa(len(body)), head.Header.Get("Content-Length"))
	assert.Empty(t, nothing)

	etag := answer.Header.Get("ETag")
	require.NotEmpty(t, etag)
	unchanged, _ := ask(t, h, "GET", "/photos/prints.png", "If-None-Match", etag)
	assert.Equal(t, 304, unchanged.StatusCode)

	part, three := ask(t, h, "GET", "/photos/prints.png", "Range", "bytes=1-3", "If-Range", etag)
	assert.Equal(t, 206, part.StatusCode)
	assert.Equal(t, "PNG", string(three))
}

func TestHandlerServesWhatLoadTestsNeed(t *testing.T) {
	t.Parallel()

	h := Handler(t.TempDir())
	answer, body := ask(t, h, "GET", "/generated/18446744073709551615/120x80.jpg")
	require.Equal(t, 200, answer.StatusCode)
	assert.Equal(t, "image/jpeg", answer.Header.Get("Content-Type"))
	config, err := jpeg.DecodeConfig(bytes.NewReader(body))
	require.NoError(t, err)
	assert.Equal(t, image.Pt(120, 80), image.Pt(config.Width, config.Height))

	_, other := ask(t, h, "GET", "/generated/1/120x80.jpg")
	assert.NotEqual(t, body, other)
	_, elsewhere := ask(t, Handler(t.TempDir()), "GET", "/generated/18446744073709551615/120x80.jpg")
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
			answer, _ := ask(t, h, method, path)
			assert.Equal(t, status, answer.StatusCode, "%s %s", method, path)
		}
	}
	answer, _ := ask(t, h, "POST", "/photos/mountains.jpg")
	assert.Equal(t, 405, answer.StatusCode)

	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, entries, "something was written")
}

func TestHandlerKeepsWhatItMade(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	ask(t, Handler(dir), "GET", "/generated/007/60x40.jpg")
	files, err := filepath.Glob(filepath.Join(dir, version, "*"))
	require.NoError(t, err)
	require.Equal(t, []string{filepath.Join(dir, version, "7-60x40.jpg")}, files)

	require.NoError(t, os.WriteFile(files[0], []byte("kept"), 0o600))
	_, body := ask(t, Handler(dir), "GET", "/generated/7/60x40.jpg")
	assert.Equal(t, "kept", string(body))
}

func TestHandlerTellsThatItCannotWrite(t *testing.T) {
	t.Parallel()

	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	answer, body := ask(t, Handler(file), "GET", "/generated/1/6x4.jpg")
	assert.Equal(t, 500, answer.StatusCode)
	assert.NotContains(t, string(body), file)
}

func TestCacheMakesAFileOnce(t *testing.T) {
	t.Parallel()

	c := newCache(t.TempDir())
	const askers = 16
	var arrived sync.WaitGroup
	arrived.Add(askers)
	var made int // without a lock: the race detector finds a second flight, too
	var done sync.WaitGroup
	for range askers {
		done.Go(func() {
			arrived.Done()
			file, err := c.open(t.Context(), "photo", func(w io.Writer) error {
				arrived.Wait()
				made++
				_, err := io.WriteString(w, "made")
				return err
			})
			if !assert.NoError(t, err) {
				return
			}
			defer file.Close()
			content, err := io.ReadAll(file)
			assert.NoError(t, err)
			assert.Equal(t, "made", string(content))
		})
	}
	done.Wait()
	assert.Equal(t, 1, made)
}

func TestCacheForgetsAFailure(t *testing.T) {
	t.Parallel()

	c := newCache(t.TempDir())
	broken := errors.New("broken")
	_, err := c.open(t.Context(), "photo", func(w io.Writer) error {
		_, _ = io.WriteString(w, "half of it")
		return broken
	})
	require.ErrorIs(t, err, broken)
	left, err := os.ReadDir(c.dir)
	require.NoError(t, err)
	assert.Empty(t, left)

	file, err := c.open(t.Context(), "photo", func(io.Writer) error { return nil })
	require.NoError(t, err)
	require.NoError(t, file.Close())
}

func TestCacheGoesOnForOthers(t *testing.T) {
	t.Parallel()

	c := newCache(t.TempDir())
	ctx, giveUp := context.WithCancel(t.Context())
	gone := make(chan struct{})
	write := func(io.Writer) error {
		giveUp()
		<-gone
		return nil
	}
	_, err := c.open(ctx, "photo", write)
	require.ErrorIs(t, err, context.Canceled)
	close(gone)
	file, err := c.open(t.Context(), "photo", func(io.Writer) error { return errors.New("made twice") })
	require.NoError(t, err)
	require.NoError(t, file.Close())
}
