package api_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/api"
	"github.com/photo-processor/photo-processor/internal/bucket"
	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
)

func TestThumbnails(t *testing.T) {
	t.Parallel()
	testThumbnails(t, setup(t))
}

func TestThumbnailsDirectoryIsMissing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "thumbnails")
	b := setup(t, func(s *api.Server) {
		var err error
		s.Thumbnails, err = bucket.Open(t.Context(), "file://"+dir)
		require.NoError(t, err)
	})
	path := "/thumbnails/" + uuid.NewString() + "/320x213-0123456789abcdef.jpg"
	requireError(t, b.get(t, path), http.StatusNotFound, "no such thumbnail")
	require.NoError(t, os.Remove(dir))
	got := b.get(t, path)
	requireError(t, got, http.StatusServiceUnavailable, "cannot be read")
	require.NotEmpty(t, got.header.Get("Retry-After"))
}

func TestThumbnailsInS3(t *testing.T) {
	server, stop, err := devstacktest.S3(t.Context())
	require.NoError(t, err)
	defer stop()
	server.Setenv(t)
	in := func(bucketURL string) option {
		return func(s *api.Server) {
			s.Thumbnails, err = bucket.Open(t.Context(), bucketURL)
			require.NoError(t, err)
		}
	}
	require.NoError(t, server.CreateBucket("thumbnails"))
	testThumbnails(t, setup(t, in(server.BucketURL("thumbnails"))))
	t.Run("a range is one request to S3", func(t *testing.T) {
		var gets atomic.Int32
		forward := server.Handler()
		proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			gets.Add(1)
			forward.ServeHTTP(w, r)
		}))
		defer proxy.Close()
		b := setup(t, in(server.Through(proxy.URL).BucketURL("thumbnails")))
		path := uuid.NewString() + "/320x213-0123456789abcdef.jpg"
		require.NoError(t, b.bucket.WriteAll(t.Context(), path, []byte("0123456789"), nil))
		for _, wanted := range []string{"bytes=2-4", "bytes=-1", "bytes=0-0,2-2,4-4", "bytes=20-", ""} {
			gets.Store(0)
			b.do(t, http.MethodGet, "/thumbnails/"+path, "", "Range", wanted)
			require.EqualValues(t, 1, gets.Load(), wanted)
		}
	})

	path := "/thumbnails/" + uuid.NewString() + "/320x213-0123456789abcdef.jpg"
	for name, url := range map[string]string{
		"there is no such bucket": server.BucketURL("nobodys"),
		"the server is away":      server.Through("http://127.0.0.1:1").BucketURL("thumbnails"),
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t, in(url))
			got := b.get(t, path)
			require.Equal(t, http.StatusServiceUnavailable, got.status)
			require.NotEmpty(t, got.header.Get("Retry-After"))
			require.Equal(t, `{"message":"The thumbnails cannot be read"}`+"\n", got.body)
			require.Contains(t, b.log.String(), "the thumbnails bucket cannot be used")
		})
	}
}

// requireNotCached checks that an error does not have the picture's headers,
// which would have caches keep it for a year.
func requireNotCached(t *testing.T, got response) {
	t.Helper()
	require.Equal(t, "no-store", got.header.Get("Cache-Control"))
	for _, name := range []string{"ETag", "Last-Modified", "Accept-Ranges"} {
		require.Empty(t, got.header.Get(name), name)
	}
}

// testThumbnails checks GET /thumbnails/{key} with the bundle's bucket.
func testThumbnails(t *testing.T, b *testBundle) {
	t.Helper()
	id := uuid.New()
	key := id.String() + "/320x213-0123456789abcdef.jpg"
	require.NoError(t, b.bucket.WriteAll(t.Context(), key, []byte("0123456789"), nil))
	path := "/thumbnails/" + key

	got := b.get(t, path)
	require.Equal(t, http.StatusOK, got.status)
	require.Equal(t, "0123456789", got.body)
	require.Equal(t, "image/jpeg", got.header.Get("Content-Type"))
	require.Equal(t, `"0123456789abcdef"`, got.header.Get("ETag"))
	require.NotEmpty(t, got.header.Get("Last-Modified"))
	require.Contains(t, got.header.Get("Cache-Control"), "immutable")
	require.Equal(t, "nosniff", got.header.Get("X-Content-Type-Options"))

	head := b.do(t, http.MethodHead, path, "")
	require.Equal(t, "10", head.header.Get("Content-Length"))
	require.Empty(t, head.body)
	part := b.do(t, http.MethodGet, path, "", "Range", "bytes=2-4")
	require.Equal(t, http.StatusPartialContent, part.status)
	require.Equal(t, "234", part.body)
	for _, wrong := range []string{"bytes=20-", "bytes=4-2", "bytes=x"} {
		got := b.do(t, http.MethodGet, path, "", "Range", wrong)
		requireJSON(t, got, http.StatusRequestedRangeNotSatisfiable, `{"message":"The thumbnail has 10 bytes, and no such range"}`+"\n")
		require.Equal(t, "bytes */10", got.header.Get("Content-Range"), wrong)
		requireNotCached(t, got)
		require.Equal(t, http.StatusRequestedRangeNotSatisfiable, b.do(t, http.MethodHead, path, "", "Range", wrong).status)
	}
	require.Equal(t, http.StatusOK, b.do(t, http.MethodGet, path, "", "Range", "lines=1-2").status, "an unknown unit is ignored")
	parts := b.do(t, http.MethodGet, path, "", "Range", "bytes=0-1,4-5")
	require.Equal(t, http.StatusOK, parts.status, "several ranges are answered whole")
	require.Equal(t, "0123456789", parts.body)
	require.Equal(t, http.StatusNotModified, b.do(t, http.MethodGet, path, "", "If-None-Match", `"0123456789abcdef"`).status)
	for name, value := range map[string]string{"If-Match": `"0000000000000000"`, "If-Unmodified-Since": "Thu, 01 Jan 2015 00:00:00 GMT"} {
		got := b.do(t, http.MethodGet, path, "", name, value)
		requireJSON(t, got, http.StatusPreconditionFailed, `{"message":"If-Match or If-Unmodified-Since does not hold for this thumbnail"}`+"\n")
		requireNotCached(t, got)
		require.Equal(t, http.StatusPreconditionFailed, b.do(t, http.MethodHead, path, "", name, value).status)
	}

	// A file beside the bucket, which no path may reach.
	require.NoError(t, b.bucket.WriteAll(t.Context(), "other.jpg", []byte("secret"), nil))
	for _, path := range []string{
		"/thumbnails/" + uuid.NewString() + "/320x213-0123456789abcdef.jpg",
		"/thumbnails/other.jpg", "/thumbnails/", "/thumbnails/" + id.String(),
		"/thumbnails/../other.jpg", "/thumbnails/..%2f..%2fetc%2fpasswd", "/thumbnails/%2e%2e/%2e%2e/etc/passwd",
		"/thumbnails//etc/passwd", path + "/", path + "%00", strings.Replace(path, ".jpg", ".html", 1), "/thumbnails/./" + key,
	} {
		requireError(t, b.get(t, path), http.StatusNotFound)
	}
}
