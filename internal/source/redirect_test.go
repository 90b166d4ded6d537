package source

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

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
		"ftp://example.com/", "file:///etc/passwd", "gopher://127.0.0.1:6379/_x", "javascript:alert(1)", "data:,x", "http://", "http://x@/", "http://a b/", "http://x:0/",
	} {
		_, _, err := fetch(t, f, server+"/to?u="+url.QueryEscape(location))
		requireFailure(t, err, photo.SourceUnavailable, "the source redirects to no valid http or https URL")
	}
}

// An allowed server redirects to blocked addresses, in all their spellings.
func TestFetchRedirectsToBlocked(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Location"] = []string{r.URL.Query().Get("u")} // as it is, unlike http.Redirect
		w.WriteHeader(http.StatusFound)
	})
	blocked, requireUnused := listenBlocked(t, blockedAddr)
	port := portOf(t, blocked)
	locations := []string{
		"http://" + blocked, "https://" + blocked, "//" + blocked, "http://user@" + blocked, "http://[::ffff:127.0.0.2]:" + port, "http://[::ffff:7f00:2]:" + port,
		"http://１２７.0.0.2:" + port, "http://169.254.169.254/latest/meta-data/", "http://[::ffff:169.254.169.254]/", "http://[fd00:ec2::254]/",
		"http://[::1]/", "http://[::]:" + port, "http://0.0.0.0:" + port, "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/",
		"http://0x7f.2:" + port, "http://0177.0.0.2:" + port, "http://2130706434:" + port, "http://①②⑦.0.0.2:" + port, "http:\\\\127.0.0.2:" + port,
		"http://%31%32%37.0.0.2:" + port, " http://127.0.0.2:" + port, "http:///127.0.0.2:" + port, "http://127.0.0.2.:" + port,
		server + "/?u=" + url.QueryEscape("http://"+blocked), // by two redirects
	}
	for _, location := range locations {
		_, _, err := fetch(t, f, server+"/?u="+url.QueryEscape(location))
		sourceErr := requireFailure(t, err, photo.SourceBlocked, "the source redirects to an address that is not public")
		require.Contains(t, sourceErr.Cause, "address refused", location)

		if strings.HasPrefix(location, "//") || strings.HasPrefix(location, server) {
			continue
		}
		_, _, err = fetch(t, f, location)
		requireFailure(t, err, photo.SourceBlocked, "the source is at an address that is not public")
	}
	requireUnused()
	_, _, err := fetch(t, f, "http://"+blocked)
	requireFailure(t, err, photo.SourceBlocked, "the source is at an address that is not public")
	requireUnused()
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
		// They are not sent again after a redirect to another origin and back.
		"/away": {"first/away us@er:s3cret/", "second/back :", "first/photo :"},
	} {
		seen = nil
		_, _, err := fetch(t, f, base+path)
		require.NoError(t, err)
		require.Equal(t, want, seen)
	}
}

// A source may set a cookie and redirect until the cookie comes back. Cookies
// are kept for one fetch, and sent to no other site.
func TestFetchCookies(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	var requests, elsewhere atomic.Int32
	other := serve(t, func(w http.ResponseWriter, r *http.Request) {
		elsewhere.Add(1)
		assert.Empty(t, r.Header["Cookie"])
		_, _ = io.WriteString(w, "other")
	})
	_, otherPort, _ := strings.Cut(strings.TrimPrefix(other, "http://"), ":")
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		cookie, err := r.Cookie("visited")
		switch {
		case err != nil:
			http.SetCookie(w, &http.Cookie{Name: "visited", Value: "s3cret", Path: "/"})
			http.SetCookie(w, &http.Cookie{Name: "tld", Value: "s3cret", Domain: "test"})
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		case r.URL.Path == "/away":
			http.Redirect(w, r, "http://other.test:"+otherPort, http.StatusFound)
		default:
			_, _ = io.WriteString(w, cookie.String())
		}
	})
	serveDNS(t, f, func(string) []string { return []string{allowedAddr} })
	base := "http://photos.test:" + urlPort(t, server)
	for range 2 {
		requests.Store(0)
		written, _, err := fetch(t, f, base+"/photo")
		require.NoError(t, err)
		require.Equal(t, "visited=s3cret", written)
		require.EqualValues(t, 2, requests.Load(), "a fetch begins without cookies")
	}
	written, _, err := fetch(t, f, base+"/away")
	require.NoError(t, err)
	require.Equal(t, "other", written)
	require.EqualValues(t, 1, elsewhere.Load())
}
