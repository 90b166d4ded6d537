package source

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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

func TestRedact(t *testing.T) {
	t.Parallel()
	d := new(download)
	require.Equal(t, "a\uFFFDb\uFFFDc", d.redact("a\nb\x1bc"))
	long := d.redact(strings.Repeat("ü", 1000))
	require.Equal(t, strings.Repeat("ü", maxCauseBytes/2)+"…", long)
}

func TestRedactURL(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"https://user:s3cret@example.com/1.jpg":          "https://user:xxxxx@example.com/1.jpg",
		" https:\\\\user:s3cret@example.com/a b.jpg":     "https://user:xxxxx@example.com/a%20b.jpg",
		"https:user:s3cret@example.com/":                 "https://user:xxxxx@example.com/",
		"https://:s3cret@example.com/#x":                 "https://:xxxxx@example.com/#x",
		"https://us er:s3@cret@example.com/":             "https://us%20er:xxxxx@example.com/",
		"ftp://user:s3cret@example.com":                  "ftp://user:xxxxx@example.com/",
		"file://user:s3cret@example.com/":                "file://user:xxxxx@example.com/",
		"HTTPS://user@example.com":                       "HTTPS://user@example.com",
		" https://EXAMPLE.com/a b.jpg?user:s3cret@host ": " https://EXAMPLE.com/a b.jpg?user:s3cret@host ",
		"": "",
	} {
		assert.Equal(t, want, RedactURL(raw), raw)
	}
}
