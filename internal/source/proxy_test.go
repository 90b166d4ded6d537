package source

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// The environment's proxy variables name a server that nobody may connect to.
func TestFetchIgnoresProxyOfEnvironment(t *testing.T) {
	unusedProxy, requireUnused := listenBlocked(t, allowedAddr)
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
		t.Setenv(name, "http://"+unusedProxy)
	}
	f := setup(t, nil)
	serveDNS(t, f, func(string) []string { return []string{allowedAddr} })
	written, _, err := fetch(t, f, "http://photos.test:"+urlPort(t, serve(t, textHandler("photo"))))
	require.NoError(t, err)
	require.Equal(t, "photo", written)
	requireUnused()
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
	// The proxy's own address may be private.
	f := setup(t, func(c *Config) { c.Proxy, c.AllowCIDRs = address, nil })

	written, _, err := fetch(t, f, "http://photos.test/photo")
	require.NoError(t, err)
	require.Equal(t, "photo", written)
	_, _, err = fetch(t, f, "http://photos.test/in")
	requireFailure(t, err, photo.SourceBlocked, "the source redirects to an address that is not public")
	_, _, err = fetch(t, f, "https://photos.test/")
	requireFailure(t, err, photo.SourceUnavailable, "no connection to the source could be made")
	require.EqualValues(t, 3, requests.Load())

	for _, host := range []string{"127.0.0.1", "[::1]", "[::ffff:10.0.0.1]", "localhost", "LOCALHOST.", "a.localhost", "１０.0.0.1", "0x7f.1", "①②⑦.0.0.1", "2130706433"} {
		_, _, err := fetch(t, f, "http://"+host+"/photo")
		requireFailure(t, err, photo.SourceBlocked, "the source is at an address that is not public")
	}
	require.EqualValues(t, 3, requests.Load())
}

// The proxy would resolve every spelling of a private address. It receives none
// of them, neither as the posted URL nor from a redirect.
func TestFetchThroughProxySendsNoNumericHosts(t *testing.T) {
	t.Parallel()
	const from = "/redirect/"
	proxy := serve(t, func(w http.ResponseWriter, r *http.Request) {
		host, found := strings.CutPrefix(r.URL.Path, from)
		if !assert.True(t, found, "the proxy received %s", r.RequestURI) {
			return
		}
		w.Header().Set("Location", "//"+host+"/photo")
		w.WriteHeader(http.StatusFound)
	})
	address, err := url.Parse(proxy)
	require.NoError(t, err)
	f := setup(t, func(c *Config) { c.Proxy, c.AllowCIDRs = address, nil })
	blocked := []string{
		"127.1", "0x7f000001", "0X7F.0.0.1", "2130706433", "017700000001", "169.254.43518", "0xa9fea9fe.", "10.1", "0", "0x", "localhost.", "a.localhost.",
	}
	for _, host := range blocked {
		_, _, err := fetch(t, f, "http://"+host+"/photo")
		requireFailure(t, err, photo.SourceBlocked, "the source is at an address that is not public")
		_, _, err = fetch(t, f, "http://photos.test"+from+host)
		requireFailure(t, err, photo.SourceBlocked, "the source redirects to an address that is not public")
	}
	for _, host := range []string{"localhost..", ".localhost", "a..localhost", "127.0.0.1..", "127.1..", "0x7f000001..", "2130706433..", "foo.1", "127.0.0.1.0x1"} {
		_, _, err := fetch(t, f, "http://"+host+"/photo")
		require.Equal(t, photo.InvalidURL, photo.CodeOf(err), host)
		_, _, err = fetch(t, f, "http://photos.test"+from+host)
		requireFailure(t, err, photo.SourceUnavailable, "the source redirects to no valid http or https URL")
	}
}
