package source

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// jpegHead is what makes a file a JPEG.
const jpegHead = "\xff\xd8\xff\xe0\x00\x10JFIF\x00"

func TestFetch(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *Config) { c.UserAgent = "test/1" })
	body := jpegHead + strings.Repeat("x", 1<<20)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, http.MethodGet, r.Method)
		assert.Equal(t, "/a%2Fb.png?x=%20", r.RequestURI)
		assert.Equal(t, http.Header{"Accept": {"*/*"}, "Accept-Encoding": {"identity"}, "User-Agent": {"test/1"}}, r.Header)
		w.Header().Set("Content-Type", "text/html") // a lie
		_, _ = io.WriteString(w, body)
	})

	var w bytes.Buffer
	var last int64
	fetched, err := f.Fetch(t.Context(), url+"/a%2Fb.png?x=%20#fragment", &w, func(n int64) {
		assert.GreaterOrEqual(t, n, last)
		last = n
	})
	require.NoError(t, err)
	digest := sha256.Sum256([]byte(body))
	require.Equal(t, Fetched{Bytes: int64(len(body)), SHA256: hex.EncodeToString(digest[:]), MediaType: "image/jpeg"}, fetched)
	require.Equal(t, body, w.String())
	require.EqualValues(t, len(body), last)
}

func TestFetchMediaType(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	for want, body := range map[string]string{
		"image/jpeg":               jpegHead,
		"image/png":                "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
		"image/webp":               "RIFF\x10\x00\x00\x00WEBPVP8 ",
		"text/html":                "<!DOCTYPE html><html></html>",
		"application/octet-stream": "\x00\x01\x02\x03",
		"text/plain":               "",
	} {
		_, fetched, err := fetch(t, f, serve(t, text(body)))
		require.NoError(t, err)
		assert.Equal(t, want, fetched.MediaType)
		assert.EqualValues(t, len(body), fetched.Bytes)
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

// The reason phrase is the source's own and never shown.
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

func TestFetchRedirects(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	mux := http.NewServeMux()
	mux.HandleFunc("/a/photo", func(w http.ResponseWriter, r *http.Request) {
		assert.Empty(t, r.Header.Get("Referer"))
		_, _ = io.WriteString(w, "photo "+r.URL.RawQuery)
	})
	for status := 301; status <= 308; status++ {
		mux.HandleFunc(fmt.Sprintf("/a/%d", status), func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "photo?relative")
			w.WriteHeader(status)
		})
	}
	mux.HandleFunc("/count/{n}", func(w http.ResponseWriter, r *http.Request) {
		var n int
		_, _ = fmt.Sscan(r.PathValue("n"), &n)
		if n == 0 {
			w.Header().Set("Location", "/a/photo")
		} else {
			w.Header().Set("Location", fmt.Sprintf("/count/%d", n-1))
		}
		w.WriteHeader(http.StatusFound)
	})
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/loop", http.StatusFound)
	})
	mux.HandleFunc("/to", func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Location"] = []string{r.URL.Query().Get("u")}
		w.WriteHeader(http.StatusFound)
	})
	server := serve(t, mux.ServeHTTP)

	for _, status := range []int{301, 302, 303, 307, 308} {
		written, _, err := fetch(t, f, fmt.Sprintf("%s/a/%d", server, status))
		require.NoError(t, err)
		require.Equal(t, "photo relative", written)
	}
	for _, status := range []int{304, 305, 306} {
		_, _, err := fetch(t, f, fmt.Sprintf("%s/a/%d", server, status))
		require.Equal(t, photo.SourceUnavailable, photo.CodeOf(err))
	}

	_, _, err := fetch(t, f, server+"/count/4") // and one more to the photo
	require.NoError(t, err)
	_, _, err = fetch(t, f, server+"/count/5")
	requireFailure(t, err, photo.SourceUnavailable, "the source redirects more than 5 times")
	_, _, err = fetch(t, f, server+"/loop")
	requireFailure(t, err, photo.SourceUnavailable, "the source redirects more than 5 times")

	none := setup(t, func(c *Config) { c.MaxRedirects = -1 })
	_, _, err = fetch(t, none, server+"/a/photo")
	require.NoError(t, err)
	_, _, err = fetch(t, none, server+"/a/301")
	requireFailure(t, err, photo.SourceUnavailable, "the source redirects more than 0 times")

	for _, location := range []string{
		"ftp://example.com/", "file:///etc/passwd", "gopher://127.0.0.1:6379/_x", "javascript:alert(1)", "data:,x", "http://", "http:///x", "http://a b/", "http://x:0/",
	} {
		_, _, err := fetch(t, f, server+"/to?u="+url.QueryEscape(location))
		require.Equal(t, photo.SourceBlocked, photo.CodeOf(err), location)
		require.Contains(t, err.Error(), "the source redirects to what is no")
	}
}

// Redirects lead from a server that may be connected to, to those that may not.
func TestFetchRedirectsToRefused(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Query().Get("u"), http.StatusFound)
	})
	at, check := trap(t, refused)
	_, port, err := net.SplitHostPort(at)
	require.NoError(t, err)
	locations := []string{
		"http://" + at, "https://" + at, "//" + at, "http://user@" + at, "http://[::ffff:127.0.0.2]:" + port, "http://[::ffff:7f00:2]:" + port,
		"http://１２７.0.0.2:" + port, "http://169.254.169.254/latest/meta-data/", "http://[::ffff:169.254.169.254]/", "http://[fd00:ec2::254]/",
		"http://[::1]/", "http://[::]:" + port, "http://0.0.0.0:" + port, "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/",
		server + "/?u=" + url.QueryEscape("http://"+at), // by two redirects
	}
	for _, location := range locations {
		_, _, err := fetch(t, f, server+"/?u="+url.QueryEscape(location))
		failure := requireFailure(t, err, photo.SourceBlocked, "the source redirects to an address that is not public")
		require.Contains(t, failure.Cause, "address refused", location)
	}
	check()
	_, _, err = fetch(t, f, "http://"+at)
	requireFailure(t, err, photo.SourceBlocked, "the source is at an address that is not public")
	check()
}

func TestFetchRefusesIPv6Loopback(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	at, check := trap(t, refused6)
	_, _, err := fetch(t, f, "http://"+at)
	requireFailure(t, err, photo.SourceBlocked, "the source is at an address that is not public")
	check()
}

func TestFetchAllowedIPv6(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *Config) { c.AllowCIDRs = []netip.Prefix{netip.MustParsePrefix("::1/128")} })
	server := httptest.NewUnstartedServer(text("photo"))
	server.Listener.Close()
	server.Listener = listen(t, refused6)
	server.Start()
	defer server.Close()
	written, _, err := fetch(t, f, server.URL)
	require.NoError(t, err)
	require.Equal(t, "photo", written)
}

func TestFetchNames(t *testing.T) {
	t.Parallel()
	at, check := trap(t, refused)
	_, trapPort, err := net.SplitHostPort(at)
	require.NoError(t, err)
	server := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host) })
	gone := listen(t, allowed)
	_, gonePort, err := net.SplitHostPort(gone.Addr().String())
	require.NoError(t, err)
	require.NoError(t, gone.Close())

	f := setup(t, nil)
	names := map[string][]string{
		"photos.test.":        {allowed},
		"xn--bcher-kva.test.": {allowed},
		"private.test.":       {refused},
		"private6.test.":      {refused6},
		"both.test.":          {refused6, refused},
		"mapped.test.":        {"::ffff:127.0.0.2"},
		"metadata.test.":      {"169.254.169.254", "fd00:ec2::254"},
		"mixed.test.":         {refused6, refused, allowed},
		"many-private.test.":  {refused, "127.0.0.3", "10.0.0.1", "::1", "fd00::1"},
		"nat64.test.":         {"64:ff9b::7f00:2"},
	}
	resolve(t, f, func(name string) []string { return names[name] })

	for _, host := range []string{"photos.test", "PHOTOS.test", "photos.test.", "mixed.test"} {
		written, _, err := fetch(t, f, "http://"+host+":"+port(t, server))
		require.NoError(t, err, host)
		require.Equal(t, strings.ToLower(host)+":"+port(t, server), written)
	}
	written, _, err := fetch(t, f, "http://Bücher.test:"+port(t, server))
	require.NoError(t, err)
	require.Equal(t, "xn--bcher-kva.test:"+port(t, server), written)

	for _, host := range []string{"private.test", "private6.test", "both.test", "mapped.test", "metadata.test", "many-private.test", "nat64.test"} {
		_, _, err := fetch(t, f, "http://"+host+":"+trapPort)
		requireFailure(t, err, photo.SourceBlocked, "the source is at an address that is not public")
	}
	check()

	// What may be connected to is away; it does not matter what else there is.
	for _, host := range []string{"photos.test", "mixed.test"} {
		_, _, err = fetch(t, f, "http://"+host+":"+gonePort)
		requireFailure(t, err, photo.SourceUnavailable, "no connection to the source could be made")
	}

	_, _, err = fetch(t, f, "http://nowhere.test/")
	failure := requireFailure(t, err, photo.SourceUnavailable, "the source's host does not exist")
	require.Contains(t, failure.Cause, "no such host")
}

// A name that leads to a public address at first, and inside at the next
// lookup, which a redirect brings about.
func TestFetchRebinding(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	at, check := trap(t, refused)
	_, trapPort, err := net.SplitHostPort(at)
	require.NoError(t, err)
	var rebound atomic.Bool
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		rebound.Store(true)
		w.Header().Set("Connection", "close")
		http.Redirect(w, r, "http://rebind.test:"+trapPort+"/", http.StatusFound)
	})
	resolve(t, f, func(string) []string {
		if rebound.Load() {
			return []string{refused}
		}
		return []string{allowed}
	})
	_, _, err = fetch(t, f, "http://rebind.test:"+port(t, server))
	requireFailure(t, err, photo.SourceBlocked, "the source redirects to an address that is not public")
	_, _, err = fetch(t, f, "http://rebind.test:"+port(t, server))
	requireFailure(t, err, photo.SourceBlocked, "the source is at an address that is not public")
	check()
}

func TestFetchSlowDNS(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *Config) { c.ConnectTimeout, c.Timeout = short, 2*time.Second }) // the resolver gives up after 10 s
	silent, err := net.ListenPacket("udp", allowed+":0")
	require.NoError(t, err)
	defer silent.Close()
	useDNS(f, silent.LocalAddr().String())
	_, _, err = fetch(t, f, "http://photos.test/")
	requireFailure(t, err, photo.SourceTimeout, "no connection to the source could be made within 50ms")
}

func TestFetchConnectionRefused(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	gone := listen(t, allowed)
	require.NoError(t, gone.Close())
	_, _, err := fetch(t, f, "http://"+gone.Addr().String())
	failure := requireFailure(t, err, photo.SourceUnavailable, "no connection to the source could be made")
	require.Contains(t, failure.Cause, "connection refused")
}

func TestFetchTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto)
		_, _ = w.Write(make([]byte, 3<<20)) // more than fits into a stream's buffer
	}))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = quiet
	server.StartTLS()
	defer server.Close()

	f := setup(t, nil)
	_, _, err := fetch(t, f, server.URL)
	failure := requireFailure(t, err, photo.SourceUnavailable, "the source's certificate could not be verified")
	require.Contains(t, failure.Cause, "x509")

	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	f = setup(t, nil)
	f.transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	written, _, err := fetch(t, f, server.URL)
	require.NoError(t, err)
	require.Equal(t, "HTTP/2.0"+strings.Repeat("\x00", 3<<20), written)

	_, _, err = fetch(t, f, strings.Replace(serve(t, text("plain")), "http:", "https:", 1))
	requireFailure(t, err, photo.SourceUnavailable, "no connection to the source could be made")
}

func TestFetchCredentials(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	var mu sync.Mutex
	var seen []string
	log := func(server string, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		user, password, _ := r.BasicAuth()
		seen = append(seen, server+r.URL.Path+" "+user+":"+password)
		assert.Empty(t, r.Header.Get("Referer"))
		assert.NotContains(t, r.RequestURI+r.Host, "s3cret")
	}
	var first, second string
	first = serve(t, func(w http.ResponseWriter, r *http.Request) {
		log("first", r)
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, strings.Replace(second, "http://", "http://evil:evil@", 1)+"/back", http.StatusFound)
		case "/here":
			http.Redirect(w, r, "/photo", http.StatusFound)
		case "/named":
			http.Redirect(w, r, strings.Replace(first, "http://", "http://evil:evil@", 1)+"/photo", http.StatusFound)
		}
	})
	second = serve(t, func(w http.ResponseWriter, r *http.Request) {
		log("second", r)
		http.Redirect(w, r, first+"/photo", http.StatusFound)
	})
	base := strings.Replace(first, "http://", "http://us%40er:s3cret%2F@", 1)
	for path, want := range map[string][]string{
		"/here":  {"first/here us@er:s3cret/", "first/photo us@er:s3cret/"},
		"/named": {"first/named us@er:s3cret/", "first/photo us@er:s3cret/"},
		// Once away from its origin, they are gone for good.
		"/away": {"first/away us@er:s3cret/", "second/back :", "first/photo :"},
	} {
		seen = nil
		_, _, err := fetch(t, f, base+path)
		require.NoError(t, err)
		require.Equal(t, want, seen)
	}
}

// Whatever goes wrong, no text of the error has any of the URL's secrets.
func TestFetchLeaksNothing(t *testing.T) {
	t.Parallel()
	at, _ := trap(t, refused)
	closed := listen(t, allowed)
	require.NoError(t, closed.Close())
	raw := func(answer string) string {
		return serveRaw(t, func(conn net.Conn) { _, _ = io.WriteString(conn, answer) })
	}
	const echo = `us"er s3c"ret token=q123&sig=abc dXMiZXI6czNjInJldA==`
	bases := map[string]string{
		"blocked":    "http://" + at,
		"refused":    "http://" + closed.Addr().String(),
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
			var failure *Error
			require.ErrorAs(t, err, &failure)
			message := fmt.Sprintf("%v %+v %q", err, err, failure.Failure)
			everything := fmt.Sprint(message, failure.LogValue(), failure.Cause)
			for _, secret := range []string{"q123", "sig=abc", "s3c", `us"er`, `us\"er`, "us%22er", "dXMiZXI6czNjInJldA==", "hop2"} {
				require.NotContains(t, everything, secret)
			}
			require.NotContains(t, message, "127.0.0.")
			require.NotContains(t, message, "path")
			require.NotContains(t, everything, "\n")
		})
	}
}

func TestScrub(t *testing.T) {
	t.Parallel()
	a := new(attempt)
	require.Equal(t, "a\uFFFDb\uFFFDc", a.scrub("a\nb\x1bc"))
	long := a.scrub(strings.Repeat("ü", 1000))
	require.Equal(t, strings.Repeat("ü", maxCauseBytes/2)+"…", long)
}

// The variables would have every fetch go to a server that nobody may use.
func TestFetchIgnoresProxyOfEnvironment(t *testing.T) {
	at, check := trap(t, allowed)
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
		t.Setenv(name, "http://"+at)
	}
	f := setup(t, nil)
	resolve(t, f, func(string) []string { return []string{allowed} })
	written, _, err := fetch(t, f, "http://photos.test:"+port(t, serve(t, text("photo"))))
	require.NoError(t, err)
	require.Equal(t, "photo", written)
	check()
}

func TestFetchThroughProxy(t *testing.T) {
	t.Parallel()
	var requests atomic.Int32
	proxy := serve(t, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		assert.Equal(t, "Basic "+"b3A6cHJveHk=", r.Header.Get("Proxy-Authorization"))
		switch r.RequestURI {
		case "http://photos.test/photo":
			_, _ = io.WriteString(w, "photo")
		case "http://photos.test/in":
			http.Redirect(w, r, "http://169.254.169.254/", http.StatusFound)
		default:
			assert.Equal(t, http.MethodConnect, r.Method)
			w.WriteHeader(http.StatusForbidden)
		}
	})
	address, err := url.Parse(strings.Replace(proxy, "http://", "http://op:proxy@", 1))
	require.NoError(t, err)
	// The proxy may be inside without being allowed as a source.
	f := setup(t, func(c *Config) { c.Proxy, c.AllowCIDRs = address, nil })

	written, _, err := fetch(t, f, "http://photos.test/photo")
	require.NoError(t, err)
	require.Equal(t, "photo", written)
	_, _, err = fetch(t, f, "http://photos.test/in")
	requireFailure(t, err, photo.SourceBlocked, "the source redirects to an address that is not public")
	_, _, err = fetch(t, f, "https://photos.test/")
	requireFailure(t, err, photo.SourceUnavailable, "no connection to the source could be made")
	require.EqualValues(t, 3, requests.Load())

	for _, host := range []string{"127.0.0.1", "[::1]", "[::ffff:10.0.0.1]", "localhost", "LOCALHOST.", "a.localhost", "１０.0.0.1"} {
		_, _, err := fetch(t, f, "http://"+host+"/photo")
		requireFailure(t, err, photo.SourceBlocked, "the source is at an address that is not public")
	}
	require.EqualValues(t, 3, requests.Load())
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

func TestFetchHostConcurrency(t *testing.T) {
	t.Parallel()
	const limit, all = 2, 6
	f := setup(t, func(c *Config) { c.HostConcurrency = limit })
	f.beat = time.Millisecond
	var running, most atomic.Int32
	entered, release := make(chan struct{}, all), make(chan struct{})
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer running.Add(-1)
		entered <- struct{}{}
		<-release
		_, _ = io.WriteString(w, "photo")
	})

	// Every fetch has been at it for several beats before any may end.
	var fetches, beating sync.WaitGroup
	beating.Add(all)
	for range all {
		var beats int
		fetches.Go(func() {
			_, err := f.Fetch(t.Context(), server, io.Discard, func(n int64) {
				if beats++; beats == 5 {
					beating.Done()
					assert.Zero(t, n)
				}
			})
			assert.NoError(t, err)
		})
	}
	beating.Wait()
	for range limit {
		<-entered
	}
	f.hosts.mu.Lock()
	assert.Len(t, f.hosts.byName, 1)
	f.hosts.mu.Unlock()

	// Another host has slots of its own.
	resolve(t, f, func(string) []string { return []string{allowed} })
	_, _, err := fetch(t, f, "http://other.test:"+port(t, serve(t, text("photo"))))
	require.NoError(t, err)

	close(release)
	fetches.Wait()
	require.EqualValues(t, limit, most.Load())
	require.Empty(t, f.hosts.byName)
}

func TestFetchCanceled(t *testing.T) {
	t.Parallel()
	why := errors.New("the worker is stopping")
	for name, cause := range map[string]error{"with a cause": why, "without": nil} {
		for _, at := range []string{"slot", "connect", "header", "body", "write"} {
			t.Run(at+" "+name, func(t *testing.T) {
				t.Parallel()
				f := setup(t, func(c *Config) { c.HostConcurrency = 1 })
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				server := serve(t, func(w http.ResponseWriter, r *http.Request) {
					if at == "header" {
						cancel(cause)
					} else {
						_, _ = io.WriteString(w, "photo")
						_ = http.NewResponseController(w).Flush()
					}
					<-r.Context().Done()
				})
				w := io.Writer(io.Discard)
				switch at {
				case "slot":
					release, err := f.hosts.acquire(ctx, allowed)
					require.NoError(t, err)
					defer release()
					f.beat = time.Millisecond
				case "connect":
					resolve(t, f, func(string) []string { cancel(cause); return nil })
					server = "http://photos.test"
				case "body":
					w = writer(func(p []byte) (int, error) { cancel(cause); return len(p), nil })
				case "write":
					w = writer(func(p []byte) (int, error) { cancel(cause); return 0, ctx.Err() })
				}
				_, err := f.Fetch(ctx, server, w, func(int64) {
					if at == "slot" {
						cancel(cause)
					}
				})
				require.ErrorIs(t, err, context.Canceled)
				if cause != nil {
					require.ErrorIs(t, err, cause)
				}
				require.Empty(t, photo.CodeOf(err), "a cancellation is no failure of the source")
			})
		}
	}
}

func TestFetchDeadlineOfCaller(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	server := serve(t, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := f.Fetch(ctx, server, io.Discard, nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Empty(t, photo.CodeOf(err))
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func TestFetchWriteError(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	server := serve(t, text("photo"))
	for want, write := range map[error]writer{
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
