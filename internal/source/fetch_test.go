package source

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// jpegHead is the start of a JPEG file.
const jpegHead = "\xff\xd8\xff\xe0\x00\x10JFIF\x00"

func TestFetch(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *Config) { c.UserAgent = "test/1" })
	body := jpegHead + strings.Repeat("x", 1<<20)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, http.MethodGet, r.Method)
		assert.Equal(t, "/a%2Fb.png?x=%20", r.RequestURI)
		assert.Equal(t, http.Header{"Accept": {"*/*"}, "Accept-Encoding": {"identity"}, "User-Agent": {"test/1"}}, r.Header)
		w.Header().Set("Content-Type", "text/html") // ignored: the bytes decide
		_, _ = io.WriteString(w, body)
	})

	var w bytes.Buffer
	var last int64
	result, err := f.Fetch(t.Context(), url+"/a%2Fb.png?x=%20#fragment", &w, func(n int64) {
		assert.GreaterOrEqual(t, n, last)
		last = n
	})
	require.NoError(t, err)
	digest := sha256.Sum256([]byte(body))
	require.Equal(t, Result{Bytes: int64(len(body)), SHA256: hex.EncodeToString(digest[:]), MediaType: "image/jpeg"}, result)
	require.Equal(t, body, w.String())
	require.EqualValues(t, len(body), last)
}

func TestFetchMediaType(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	for want, body := range map[string]string{
		"image/jpeg":               jpegHead,
		"image/png":                "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
		"image/heic":               "\x00\x00\x00\x14ftypheim\x00\x00\x00\x00mif1",
		"image/avif":               "\x00\x00\x00\x18ftypmiaf\x00\x00\x00\x00mif1avif",
		"image/heif":               "\x00\x00\x00\x14ftypmiaf\x00\x00\x00\x00mif1",
		"image/webp":               "RIFF\x10\x00\x00\x00WEBPVP8 ",
		"text/html":                "<!DOCTYPE html><html></html>",
		"application/octet-stream": "\x00\x01\x02\x03",
		"text/plain":               "",
	} {
		_, result, err := fetch(t, f, serve(t, textHandler(body)))
		require.NoError(t, err)
		assert.Equal(t, want, result.MediaType)
		assert.EqualValues(t, len(body), result.Bytes)
	}
}

func TestFetchStatus(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var status int
		_, err := fmt.Sscanf(r.URL.Path, "/%d", &status)
		assert.NoError(t, err)
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(status)
		if status >= 200 && status != 204 && status != 304 {
			_, _ = io.WriteString(w, "body")
		}
	})
	for status, want := range map[int]struct {
		code    photo.Code
		message string
	}{
		200: {"", ""},
		203: {"", ""},
		201: {photo.SourceUnavailable, "the source answered 201 Created"},
		202: {photo.SourceUnavailable, "the source answered 202 Accepted"},
		204: {photo.SourceUnavailable, "the source answered 204 No Content"},
		206: {photo.SourceUnavailable, "the source answered 206 Partial Content"},
		300: {photo.SourceUnavailable, "the source answered 300 Multiple Choices"},
		302: {photo.SourceUnavailable, "the source answered 302 Found"}, // without a Location
		304: {photo.SourceUnavailable, "the source answered 304 Not Modified"},
		400: {photo.SourceUnavailable, "the source answered 400 Bad Request"},
		401: {photo.SourceForbidden, "the source answered 401 Unauthorized"},
		403: {photo.SourceForbidden, "the source answered 403 Forbidden"},
		404: {photo.SourceNotFound, "the source answered 404 Not Found"},
		410: {photo.SourceNotFound, "the source answered 410 Gone"},
		418: {photo.SourceUnavailable, "the source answered 418 I'm a teapot"},
		429: {photo.SourceUnavailable, "the source answered 429 Too Many Requests"},
		451: {photo.SourceUnavailable, "the source answered 451 Unavailable For Legal Reasons"},
		500: {photo.SourceUnavailable, "the source answered 500 Internal Server Error"},
		503: {photo.SourceUnavailable, "the source answered 503 Service Unavailable"},
		599: {photo.SourceUnavailable, "the source answered 599"},
		999: {photo.SourceUnavailable, "the source answered 999"},
	} {
		written, _, err := fetch(t, f, fmt.Sprintf("%s/%d", url, status))
		if want.code == "" {
			require.NoError(t, err)
			require.Equal(t, "body", written)
			continue
		}
		failure := requireFailure(t, err, want.code, "%s", want.message).Failure
		require.Empty(t, written)
		if want.code.IsRetryable() {
			require.Equal(t, 7*time.Second, failure.RetryAfter, status)
		} else {
			require.Zero(t, failure.RetryAfter, status)
		}
	}
}

// A 206 is a photo if its range is the whole.
func TestFetchPartialContent(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	for contentRange, whole := range map[string]bool{
		"bytes 0-4/5":                    true,
		"Bytes  0-4/5 ":                  true,
		"bytes 0-4/6":                    false,
		"bytes 1-5/6":                    false,
		"bytes 0-5/6":                    false, // but the body has 5
		"bytes 0-4/*":                    false,
		"bytes */5":                      false,
		"bytes 0--1/0":                   false,
		"bytes +0-+4/+5":                 false,
		"bytes 0-4/5, 0-4/5":             false,
		"items 0-4/5":                    false,
		"0-4/5":                          false,
		"":                               false,
		"bytes 0-4/99999999999999999999": false,
	} {
		written, _, err := fetch(t, f, serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", contentRange)
			w.Header().Set("Content-Length", "5")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = io.WriteString(w, "photo")
		}))
		if whole {
			require.NoError(t, err, contentRange)
			require.Equal(t, "photo", written)
			continue
		}
		requireFailure(t, err, photo.SourceUnavailable, "the source answered 206 Partial Content")
		require.Empty(t, written)
	}
}

// The source's reason phrase is replaced by the standard's.
func TestFetchReasonPhrase(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	url := serveRaw(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, "HTTP/1.1 403 <script>alert(1)</script>\r\nContent-Length: 0\r\n\r\n")
	})
	_, _, err := fetch(t, f, url)
	requireFailure(t, err, photo.SourceForbidden, "the source answered 403 Forbidden")
}

func TestFetchAgainAfterFailure(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	var requests atomic.Int32
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 1 {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = io.WriteString(w, "photo")
	})
	_, _, err := fetch(t, f, url)
	requireFailure(t, err, photo.SourceUnavailable, "the source answered 500 Internal Server Error")
	written, _, err := fetch(t, f, url)
	require.NoError(t, err)
	require.Equal(t, "photo", written)
}

func TestFetchInvalidURL(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	_, _, err := fetch(t, f, "file:///etc/passwd")
	requireFailure(t, err, photo.InvalidURL, "the URL is not http or https")
}

func TestFetchConnectionRefused(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	_, _, err := fetch(t, f, "http://"+closedAddress(t))
	sourceErr := requireFailure(t, err, photo.SourceUnavailable, "no connection to the source could be made")
	require.Contains(t, sourceErr.Cause, "connection refused")
}

func TestFetchTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto)
		_, _ = w.Write(make([]byte, 3<<20)) // more than fits into a stream's buffer
	}))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()

	f := setup(t, nil)
	_, _, err := fetch(t, f, server.URL)
	sourceErr := requireFailure(t, err, photo.SourceUnavailable, "the source's certificate could not be verified")
	require.Contains(t, sourceErr.Cause, "x509")

	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	f = setup(t, nil)
	f.transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	written, _, err := fetch(t, f, server.URL)
	require.NoError(t, err)
	require.Equal(t, "HTTP/2.0"+strings.Repeat("\x00", 3<<20), written)

	_, _, err = fetch(t, f, strings.Replace(serve(t, textHandler("plain")), "http:", "https:", 1))
	requireFailure(t, err, photo.SourceUnavailable, "no connection to the source could be made")
}

func TestFetchReusesConnections(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	var connections atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, "/photo", http.StatusFound)
		case "/missing":
			http.NotFound(w, r)
		case "/chunked":
			w.WriteHeader(http.StatusServiceUnavailable)
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, "sorry")
		default:
			_, _ = io.WriteString(w, "photo")
		}
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	for range 3 {
		for _, path := range []string{"/photo", "/redirect", "/missing", "/chunked"} {
			_, _, _ = fetch(t, f, server.URL+path)
		}
	}
	require.EqualValues(t, 1, connections.Load())
}

func TestFetchWriteError(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	server := serve(t, textHandler("photo"))
	for want, write := range map[error]writerFunc{
		syscall.ENOSPC:   func([]byte) (int, error) { return 0, fmt.Errorf("write: %w", syscall.ENOSPC) },
		io.ErrShortWrite: func(p []byte) (int, error) { return len(p) - 1, nil },
		context.Canceled: func([]byte) (int, error) { return 0, context.Canceled }, // the bucket's, not ours
		io.EOF:           func([]byte) (int, error) { return 0, io.EOF },
		errTooLarge:      func([]byte) (int, error) { return -1, errTooLarge },
	} {
		_, err := f.Fetch(t.Context(), server, write, nil)
		var werr *WriteError
		require.ErrorAs(t, err, &werr)
		require.ErrorIs(t, err, want)
		require.Empty(t, photo.CodeOf(err))
	}
}
