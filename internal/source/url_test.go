package source

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

func TestCheckURL(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"http://example.com", "https://example.com/a/b.jpg?x=1&y=%20#frag", "HTTPS://EXAMPLE.COM/", "http://example.com./a",
		"http://user:pass@example.com/", "http://user@example.com:8080/", "http://example.com:65535/", "http://example.com:/",
		"http://127.0.0.1/", "http://[::1]:80/", "http://[::ffff:127.0.0.1]/", "http://2130706433/", "http://my_bucket.example.com/",
		"http://bücher.example/", "http://例え.テスト/", "http://xn--bcher-kva.example/", "http://example.com/ü.jpg", "http://example.com//\\..",
		" http://example.com/", "http://example.com/\n", "http://example.com/%zz", "http://us er:s3cret@host/", "http:example.com", "http:///host",
	} {
		assert.NoError(t, CheckURL(raw), raw)
	}

	for raw, message := range map[string]string{
		"":                                         "the URL is not http or https",
		"photo.jpg":                                "the URL is not http or https",
		"//example.com/":                           "the URL is not http or https",
		"ftp://example.com/":                       "the URL is not http or https",
		"file:///etc/passwd":                       "the URL is not http or https",
		"gopher://127.0.0.1:6379/_x":               "the URL is not http or https",
		"data:image/png;base64,AAAA":               "the URL is not http or https",
		"javascript:alert(1)":                      "the URL is not http or https",
		"unix:///var/run/docker.sock":              "the URL is not http or https",
		"http:":                                    "the URL names no host",
		"http://":                                  "the URL names no host",
		"http://:80/":                              "the URL names no host",
		"http://user@/":                            "the URL names no host",
		"http://./":                                "the URL names no host",
		"http://...:80/":                           "the URL names no host",
		"http://localhost../":                      "the URL's host is no host name",
		"http://example.com../":                    "the URL's host is no host name",
		"http://.example.com/":                     "the URL's host is no host name",
		"http://a..b/":                             "the URL's host is no host name",
		"http://a\u3002%2Eb/":                      "the URL's host is no host name",
		"http://127.0.0.1../":                      "the URL's host is no host name",
		"http://127.1../":                          "the URL's host is no host name",
		"http://0x7f000001../":                     "the URL's host is no host name",
		"http://2130706433../":                     "the URL's host is no host name",
		"http://foo.1/":                            "the URL cannot be parsed",
		"http://foo.0X1F./":                        "the URL cannot be parsed",
		"http://exa mple.com/":                     "the URL's host is no host name",
		"http://example.com\x00/":                  "the URL cannot be parsed",
		"http://example.com/\x00":                  "the URL cannot be parsed",
		"http://example.com/a\x00b":                "the URL cannot be parsed",
		"http://" + strings.Repeat("@", 21) + "x/": "the URL cannot be parsed",
		"http://x/" + strings.Repeat("\\", 1001):   "the URL cannot be parsed",
		"http://x/" + strings.Repeat("a/", 1001):   "the URL cannot be parsed",
		"http://x/?" + strings.Repeat("a", 16<<10): "the URL cannot be parsed",
		"http://1.2.3.4.5/":                        "the URL cannot be parsed",
		"http://example.com:x/":                    "the URL cannot be parsed",
		"http://[::1/":                             "the URL cannot be parsed",
		"http://user:s3cret@host:a/":               "the URL cannot be parsed",
		"http://example.com:0/":                    "the URL's port is not from 1 to 65535",
		"http://example.com:65536/":                "the URL's port is not from 1 to 65535",
		"http://example.com:99999999999999999999/": "the URL's port is not from 1 to 65535",
		"http://exa\"mple.com/":                    "the URL's host is no host name",
		"http://exa$mple.com/":                     "the URL's host is no host name",
		"http://a,b/":                              "the URL's host is no host name",
		"http://\u00ad/":                           "the URL's host is no host name",
		"http://xn--\u00fc/":                       "the URL's host is no host name",
		"http://a\u202eb/":                         "the URL's host is no host name",
		"http://" + strings.Repeat("a.", 200):      "the URL's host is no host name",
		"http://[fe80::1%25eth0]/":                 "the URL cannot be parsed",
		"http://[::g]/":                            "the URL cannot be parsed",
	} {
		err := CheckURL(raw)
		require.Error(t, err, raw)
		assert.Equal(t, photo.InvalidURL, photo.CodeOf(err), raw)
		assert.Equal(t, message, err.Error(), raw)
	}
}

func TestParseTarget(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]struct{ url, host string }{
		"HTTP://User:Pass@EXAMPLE.com:8080/A?B#C": {"http://example.com:8080/A?B", "example.com"},
		"http://example.com.":                     {"http://example.com./", "example.com"},
		"http://example.com:/":                    {"http://example.com/", "example.com"},
		"http://[0:0::1]/":                        {"http://[::1]/", "::1"},
		"http://[::1]:81/":                        {"http://[::1]:81/", "::1"},
		"http://[::FFFF:7f00:1]/":                 {"http://[::ffff:127.0.0.1]/", "::ffff:127.0.0.1"},
		"http://BÜCHER.example/":                  {"http://xn--bcher-kva.example/", "xn--bcher-kva.example"},
		"http://１２７.０.０.１/":                       {"http://127.0.0.1/", "127.0.0.1"},
		"http://127。0。0。1/":                       {"http://127.0.0.1/", "127.0.0.1"},
		"http://①②⑦.0.0.1/":                       {"http://127.0.0.1/", "127.0.0.1"},
		"http://0x7f.1/":                          {"http://127.0.0.1/", "127.0.0.1"},
		"http://0177.0.0.1./":                     {"http://127.0.0.1/", "127.0.0.1"},
		"http://2130706433/":                      {"http://127.0.0.1/", "127.0.0.1"},
		"http://%31%32%37.0.0.1/":                 {"http://127.0.0.1/", "127.0.0.1"},
		"http:\\\\example.com\\a":                 {"http://example.com/a", "example.com"},
		"http://example.com:00080/":               {"http://example.com/", "example.com"},
		"http://ⓔxample.com/":                     {"http://example.com/", "example.com"},
	} {
		target, failure := parseTarget(raw)
		if assert.Nil(t, failure, raw) {
			assert.Equal(t, want.url, target.url.String(), raw)
			assert.Equal(t, want.host, target.host, raw)
		}
	}
}

// Resolvers accept more spellings of an IPv4 address than dotted quads. A name
// that ends in a number may be one.
func TestCanonicalHostRefusesNumbers(t *testing.T) {
	t.Parallel()
	for _, host := range []string{
		"127.1", "0x7f000001", "0X7F000001", "2130706433", "017700000001", "169.254.43518", "127.0.0.1..", "127.0.0.01", "1.2.3.4.5",
		"256.0.0.1", "4294967296", "foo.1", "foo.0x", "foo.0xg1.0", "0x7f.1.",
	} {
		_, failure := canonicalHost(host)
		if assert.NotNil(t, failure, host) {
			assert.Equal(t, photo.InvalidURL, failure.Code, host)
		}
	}
	for _, host := range []string{"127.0.0.1", "8.8.8.8", "8.8.8.8.", "1.example", "1a", "foo.1_", "foo.0xg", "foo.x1", "0x-", "127.0.0.1.nip.io"} {
		got, failure := canonicalHost(host)
		assert.Nil(t, failure, host)
		assert.Equal(t, host, got)
	}
}

func TestHasSameOrigin(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b string
		same bool
	}{
		{"http://a/x", "http://A./y", true},
		{"http://a", "http://a:80", true},
		{"https://a:443", "https://a", true},
		{"http://a", "https://a", false},
		{"http://a:443", "https://a", false},
		{"http://a", "http://a:81", false},
		{"http://a", "http://b.a", false},
		{"http://b.a", "http://a", false},
	} {
		a, failure := parseTarget(test.a)
		require.Nil(t, failure)
		b, failure := parseTarget(test.b)
		require.Nil(t, failure)
		assert.Equal(t, test.same, a.hasSameOrigin(b), "%s %s", test.a, test.b)
	}
}

func FuzzCheckURL(f *testing.F) {
	for _, seed := range []string{
		"http://example.com/a.jpg?q#f", "https://user:s3cret@example.com:8443/", "http://[::1%25lo]:80/", "http://bücher.example",
		"http://１２７.０.０.１/", "http://%31%32%37.0.0.1/", "http://0x7f.1/", "http://a@b@c/", "http:\\\\example.com", "http://example.com:00080/",
		"ftp://x", "http://", "", "http://\xff\xfe/", "http://[::ffff:1.2.3.4]", "http://a\u3002b", "//x", "http:opaque",
		"http://x/" + strings.Repeat("\xbc", 7000),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		err := CheckURL(raw)
		if err != nil {
			require.Equal(t, photo.InvalidURL, photo.CodeOf(err))
			require.Less(t, len(err.Error()), 50, "quotes the URL")
			return
		}
		target, failure := parseTarget(raw)
		require.Nil(t, failure)
		require.Contains(t, []string{"http", "https"}, target.url.Scheme)
		require.NotEmpty(t, target.host)
		require.Nil(t, target.url.User)
		require.NotRegexp(t, `[^!-~]`, target.url.Host)
		require.NotRegexp(t, `[^!-~]`, target.url.RequestURI())

		// The URL that is requested has the host that was checked. With its
		// escapes it may be longer than what is parsed.
		if len(target.url.String()) > maxParsedBytes {
			return
		}
		again, failure := parseTarget(target.url.String())
		require.Nil(t, failure, target.url.String())
		require.Equal(t, target.url.Host, again.url.Host)
		require.Equal(t, target.host, again.host)
		require.Equal(t, target.url.RequestURI(), again.url.RequestURI())
		_, err = url.Parse(target.url.String())
		require.NoError(t, err)
	})
}

// URLs as people paste them are requested as browsers request them.
func TestFetchPastedURL(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/to" {
			location, err := url.QueryUnescape(r.URL.RawQuery)
			assert.NoError(t, err)
			w.Header()["Location"] = []string{location}
			w.WriteHeader(http.StatusFound)
			return
		}
		_, _ = io.WriteString(w, r.RequestURI)
	})
	for pasted, want := range map[string]string{
		"/images%2Ffoo bär.jpg":      "/images%2Ffoo%20b%C3%A4r.jpg",
		"/a%2Fb|c^d`e{f}[g].jpg":     "/a%2Fb%7Cc%5Ed%60e%7Bf%7D[g].jpg",
		"/a%2fb%C3%BC%7e.jpg":        "/a%2fb%C3%BC%7e.jpg",
		"/100%/a%2Fb%zz.jpg":         "/100%25/a%2Fb%25zz.jpg",
		"/a?q=foo bär&r=%20%2F|100%": "/a?q=foo%20b%C3%A4r&r=%20%2F|100%",
		"/a?":                        "/a?",
		"/a+b;c=d,e!$&'()*:@.jpg":    "/a+b;c=d,e!$&'()*:@.jpg",
		"/a//b\\c/./d/../e.jpg":      "/a//b/c/e.jpg",
		"/long\n\tname.jpg \r\n":     "/longname.jpg",
		"/a.jpg#frag ment":           "/a.jpg",
		"/%FF%00.jpg":                "/%FF%00.jpg",
		"//a.jpg":                    "//a.jpg",
		"?q":                         "/?q",
		"":                           "/",
	} {
		written, _, err := fetch(t, f, " \t"+server+pasted)
		require.NoError(t, err, pasted)
		require.Equal(t, want, written, pasted)
		if strings.ContainsAny(pasted, "\r\n") || pasted == "" {
			continue // cannot be in a header, or means no redirect
		}
		written, _, err = fetch(t, f, server+"/to?"+url.QueryEscape(server+pasted))
		require.NoError(t, err, pasted)
		require.Equal(t, want, written, pasted)
	}
	written, _, err := fetch(t, f, server+"/to?"+url.QueryEscape("/b\xe4r.jpg"))
	require.NoError(t, err)
	require.Equal(t, "/b%E4r.jpg", written)
}
