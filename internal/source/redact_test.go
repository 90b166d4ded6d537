package source

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// No text of an error contains a secret of a URL, for every kind of failure.
func TestFetchErrorsContainNoSecrets(t *testing.T) {
	t.Parallel()
	blocked, _ := listenBlocked(t, blockedAddr)
	raw := func(answer string) string {
		return serveRaw(t, func(conn net.Conn) { _, _ = io.WriteString(conn, answer) })
	}
	const echo = `us"er s3c"ret token=q123&sig=abc dXMiZXI6czNjInJldA==`
	bases := map[string]string{
		"blocked":    "http://" + blocked,
		"refused":    "http://" + closedAddress(t),
		"not TLS":    strings.Replace(raw(""), "http:", "https:", 1),
		"no answer":  raw(""),
		"no HTTP":    raw(echo + "\r\n\r\n"),
		"status":     raw("HTTP/1.1 " + echo + "\r\n\r\n"),
		"reason":     raw("HTTP/1.1 500 " + echo + "\r\nContent-Length: 0\r\n\r\n"),
		"header":     raw("HTTP/1.1 200 OK\r\n" + echo + "\r\n\r\n"),
		"length":     raw("HTTP/1.1 200 OK\r\nContent-Length: " + echo + "\r\n\r\n"),
		"encoding":   raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: " + echo + "\r\n\r\n"),
		"chunk":      raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + echo + "\r\n"),
		"short":      raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + echo),
		"location":   raw("HTTP/1.1 302 OK\r\nLocation: http://a:b@" + echo + "/%zz\r\n\r\n"),
		"second hop": raw("HTTP/1.1 302 OK\r\nLocation: " + strings.Replace(raw("hop2user hop2pass hop2query"), "://", "://hop2user:hop2pass@", 1) + "/?hop2query\r\nContent-Length: 0\r\n\r\n"),
		"invalid":    "ftp://127.0.0.1",
		"unparsable": "http://127.0.0.1:port",
	}
	for name, base := range bases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, nil)
			_, _, err := fetch(t, f, strings.Replace(base, "://", "://us%22er:s3c%22ret@", 1)+"/path?token=q123&sig=abc")
			var sourceErr *Error
			require.ErrorAs(t, err, &sourceErr)
			message := fmt.Sprintf("%v %+v %q", err, err, sourceErr.Failure)
			everything := fmt.Sprint(message, sourceErr.LogValue(), sourceErr.Cause)
			for _, secret := range []string{"q123", "sig=abc", "s3c", `us"er`, `us\"er`, "us%22er", "dXMiZXI6czNjInJldA==", "hop2"} {
				require.NotContains(t, everything, secret)
			}
			require.NotContains(t, message, "127.0.0.")
			require.NotContains(t, message, "path")
			require.NotContains(t, everything, "\n")
		})
	}
}

// A source may repeat the request, or other secrets, in any part of its
// response.
func TestFetchErrorsContainNoTextOfTheSource(t *testing.T) {
	t.Parallel()
	raw := func(answer string) string {
		return serveRaw(t, func(conn net.Conn) { _, _ = io.WriteString(conn, answer) })
	}
	const echo = `/path/ECHO?a="ECHO\ECHO" ECHO`
	for name, answer := range map[string]string{
		"no HTTP":          echo + "\r\n\r\n",
		"status":           "HTTP/1.1 " + echo + "\r\n\r\n",
		"version":          "HTTP/" + echo + " 200 OK\r\n\r\n",
		"reason":           "HTTP/1.1 500 " + echo + "\r\nContent-Length: 0\r\n\r\n",
		"header":           "HTTP/1.1 200 OK\r\n" + echo + "\r\n\r\n",
		"header's name":    "HTTP/1.1 200 OK\r\n" + echo + ": x\r\n\r\n",
		"header's value":   "HTTP/1.1 200 OK\r\nX: " + echo + "\x00\r\n\r\n",
		"folded header":    "HTTP/1.1 200 OK\r\n " + echo + "\r\n\r\n",
		"length":           "HTTP/1.1 200 OK\r\nContent-Length: " + echo + "\r\n\r\n",
		"lengths":          "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: " + echo + "\r\n\r\n",
		"encoding":         "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + echo + "\r\n\r\n",
		"trailer":          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Content-Length, " + echo + "\r\n\r\n0\r\n\r\n",
		"trailer's line":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + echo + "\r\n\r\n",
		"chunk":            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + echo + "\r\n",
		"gzip":             "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + echo,
		"retry after":      "HTTP/1.1 503 OK\r\nRetry-After: " + echo + "\r\n\r\n",
		"location":         "HTTP/1.1 302 OK\r\nLocation: http://" + echo + "\r\nContent-Length: 0\r\n\r\n",
		"location's query": "HTTP/1.1 302 OK\r\nLocation: http://127.0.0.2:1/ECHO?ECHO\r\nContent-Length: 0\r\n\r\n",
		"error page":       "HTTP/1.1 404 OK\r\nContent-Length: 4\r\n\r\nECHO",
		"length, no body":  "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + echo,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := fetch(t, setup(t, nil), raw(answer)+"/path/ECHO?a=ECHO")
			var sourceErr *Error
			require.ErrorAs(t, err, &sourceErr)
			everything := fmt.Sprintf("%v %v %v", err, sourceErr.LogValue(), sourceErr.Cause)
			require.NotContains(t, strings.ToUpper(everything), "ECHO")
		})
	}
	t.Run("certificate", func(t *testing.T) {
		t.Parallel()
		server := httptest.NewTLSServer(textHandler("photo")) // its certificate is for example.com
		defer server.Close()
		roots := x509.NewCertPool()
		roots.AddCert(server.Certificate())
		f := setup(t, nil)
		f.transport.TLSClientConfig = &tls.Config{RootCAs: roots, ServerName: "photos.test", MinVersion: tls.VersionTLS12}
		_, _, err := fetch(t, f, server.URL)
		sourceErr := requireFailure(t, err, photo.SourceUnavailable, "the source's certificate could not be verified")
		require.Contains(t, sourceErr.Cause, "x509: the certificate is not valid")
		require.NotContains(t, sourceErr.Cause, "example.com")
	})
}

func TestRedact(t *testing.T) {
	t.Parallel()
	d := new(download)
	require.Equal(t, "a\uFFFDb\uFFFDc", d.redact(errors.New("a\nb\x1bc")))
	long := d.redact(errors.New(strings.Repeat("ü", 1000)))
	require.Equal(t, strings.Repeat("ü", maxCauseBytes/2)+"…", long)
}

func TestCutQuoted(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain":                               "plain",
		`malformed "a b": end`:                `malformed "…": end`,
		fmt.Sprintf("x %q; y %q", `a"b\`, ""): `x "…"; y "…"`,
		`cut in "the mid`:                     `cut in "…"`,
		`cut in "an escape\`:                  `cut in "…"`,
		fmt.Sprintf("%q", []string{"a", `"`}): `["…" "…"]`,
	} {
		assert.Equal(t, want, CutQuoted(text), text)
	}
}

func TestRedactURL(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]struct{ full, redacted string }{
		"https://user:s3cret@example.com/1.jpg":          {full: "https://user:xxxxx@example.com/1.jpg"},
		" https:\\\\user:s3cret@example.com/a b.jpg":     {full: "https://user:xxxxx@example.com/a%20b.jpg"},
		"https:user:s3cret@example.com/":                 {full: "https://user:xxxxx@example.com/"},
		"https://:s3cret@example.com/#x":                 {full: "https://:xxxxx@example.com/#x"},
		"https://us er:s3@cret@example.com/":             {full: "https://us%20er:xxxxx@example.com/"},
		"ftp://user:s3cret@example.com":                  {full: "ftp://user:xxxxx@example.com/"},
		"HTTPS://user@example.com":                       {full: "HTTPS://user@example.com"},
		"https://example.com:8443/a b/%zz/ü.jpg":         {full: "https://example.com:8443/a b/%zz/ü.jpg"},
		"\thttp://EXAMPLE.com./a//b\\c.jpg#f&g=h ":       {full: "\thttp://EXAMPLE.com./a//b\\c.jpg#f&g=h "},
		"http://bücher.example/a@b.jpg":                  {full: "http://bücher.example/a@b.jpg"},
		"":                                               {},
		" https://EXAMPLE.com/a b.jpg?user:s3cret@host ": {" https://EXAMPLE.com/a b.jpg?user:s3cret@host ", " https://EXAMPLE.com/a b.jpg?xxxxx"},
		"https://example.com/a?X-Sig=s3cret&w=&s3cret":   {"https://example.com/a?X-Sig=s3cret&w=&s3cret", "https://example.com/a?X-Sig=xxxxx&xxxxx&xxxxx"},
		"https://example.com/a?s3cret==":                 {"https://example.com/a?s3cret==", "https://example.com/a?xxxxx"},
		"https://example.com/?a=b=c?d=e;f#g?h=i":         {"https://example.com/?a=b=c?d=e;f#g?h=i", "https://example.com/?a=xxxxx#g?h=i"},
		"https://example.com/?&":                         {full: "https://example.com/?&"},
		"https://u:s3cret@example.com/?t=s3cret":         {"https://u:xxxxx@example.com/?t=s3cret", "https://u:xxxxx@example.com/?t=xxxxx"},

		// Not parsable.
		"http://user:s3cret@host:port/":                  {full: "xxxxx"},
		"http://user:s3?cret@host/":                      {full: "xxxxx"},
		"http://user:s3cret":                             {full: "xxxxx"},
		"user:s3cret@host":                               {full: "xxxxx"},
		"file://user:s3cret@example.com/":                {full: "xxxxx"},
		"s3cret":                                         {full: "xxxxx"},
		"http://user:s3cret%zz@ho st/":                   {full: "xxxxx"},
		"http://example.com:99999/s3cret":                {full: "http://example.com/xxxxx"},
		"http://x/" + strings.Repeat("s3cret/", 1001):    {full: "http://x/xxxxx"},
		"http://u:s3cret@x/" + strings.Repeat("/", 1001): {full: "xxxxx"},
	} {
		assert.Equal(t, want.full, RedactPassword(raw), raw)
		assert.Equal(t, cmp.Or(want.redacted, want.full), RedactURL(raw), raw)
	}
}
