package source

import (
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
		"http:///path":                             "the URL names no host",
		"http:example.com":                         "the URL names no host",
		"http://:80/":                              "the URL names no host",
		"http://user@/":                            "the URL names no host",
		"http://./":                                "the URL names no host",
		"http://...:80/":                           "the URL names no host",
		" http://example.com/":                     "the URL cannot be parsed",
		"http://exa mple.com/":                     "the URL cannot be parsed",
		"http://example.com/\n":                    "the URL cannot be parsed",
		"http://example.com\x00/":                  "the URL cannot be parsed",
		"http://example.com:x/":                    "the URL cannot be parsed",
		"http://[::1/":                             "the URL cannot be parsed",
		"http://example.com/%zz":                   "the URL cannot be parsed",
		"http://us er:s3cret@host/":                "the URL cannot be parsed",
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
		"http://[fe80::1%25eth0]/":                 "the URL's host is not an IPv6 address",
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
		"http://example.com.":                     {"http://example.com.", "example.com"},
		"http://example.com:/":                    {"http://example.com/", "example.com"},
		"http://[0:0::1]/":                        {"http://[::1]/", "::1"},
		"http://[::1]:81/":                        {"http://[::1]:81/", "::1"},
		"http://[::FFFF:7f00:1]/":                 {"http://[::ffff:127.0.0.1]/", "::ffff:127.0.0.1"},
		"http://BÜCHER.example/":                  {"http://xn--bcher-kva.example/", "xn--bcher-kva.example"},
		"http://１２７.０.０.１/":                       {"http://127.0.0.1/", "127.0.0.1"},
		"http://127。0。0。1/":                       {"http://127.0.0.1/", "127.0.0.1"},
		"http://ⓔxample.com/":                     {"http://example.com/", "example.com"},
	} {
		target, failure := parseTarget(raw)
		if assert.Nil(t, failure, raw) {
			assert.Equal(t, want.url, target.url.String(), raw)
			assert.Equal(t, want.host, target.host, raw)
		}
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
		require.True(t, isASCII(target.url.Host))

		// The URL that is requested has the host that was checked.
		again, failure := parseTarget(target.url.String())
		require.Nil(t, failure, target.url.String())
		require.Equal(t, target.url.Host, again.url.Host)
		require.Equal(t, target.host, again.host)
		_, err = url.Parse(target.url.String())
		require.NoError(t, err)
	})
}
