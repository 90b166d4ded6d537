package bucket_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"gocloud.dev/blob"

	"github.com/photo-processor/photo-processor/internal/bucket"
)

func TestIsMissing(t *testing.T) {
	s3 := startS3(t)
	require.NoError(t, s3.CreateBucket("photos"))
	otherService := httptest.NewServer(http.NotFoundHandler())
	defer otherService.Close()
	isMissing := func(b *blob.Bucket) bool {
		_, err := b.NewReader(t.Context(), "photo/missing.jpg", nil)
		require.Error(t, err)
		return bucket.IsMissing(t.Context(), b, err)
	}
	dir := filepath.Join(t.TempDir(), "photos")
	files := openBucket(t, "file://"+dir)
	require.True(t, isMissing(files))
	require.NoError(t, os.Remove(dir))
	require.False(t, isMissing(files), "the directory is missing")
	require.True(t, isMissing(openBucket(t, "mem://")))
	require.True(t, isMissing(openBucket(t, s3.BucketURL("photos"))))
	require.True(t, isMissing(openBucket(t, s3.BucketURL("photos")+"&prefix=folder/")))
	require.False(t, isMissing(openBucket(t, s3.BucketURL("nobodys"))))
	require.False(t, isMissing(openBucket(t, s3.Through("http://127.0.0.1:1").BucketURL("photos"))))
	require.False(t, isMissing(openBucket(t, s3.Through(otherService.URL).BucketURL("photos"))))
	require.False(t, bucket.IsMissing(t.Context(), files, nil))
}

// TestIsMissingDoesNotList guards against a check that gets slower with each
// thumbnail in the bucket.
func TestIsMissingDoesNotList(t *testing.T) {
	t.Run("file", func(t *testing.T) {
		const n = 2000
		dir := t.TempDir()
		for i := range n {
			require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600))
		}
		b := openBucket(t, "file://"+dir)
		allocations := testing.AllocsPerRun(5, func() {
			_, err := b.NewReader(t.Context(), "photo/missing.jpg", nil)
			require.True(t, bucket.IsMissing(t.Context(), b, err))
		})
		require.Less(t, allocations, float64(n), "a listing allocates something for each file")
	})
	t.Run("s3", func(t *testing.T) {
		s3 := startS3(t)
		require.NoError(t, s3.CreateBucket("photos"))
		var requests atomic.Int64
		proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests.Add(1)
			s3.Handler().ServeHTTP(w, r)
		}))
		defer proxy.Close()
		b := openBucket(t, s3.Through(proxy.URL).BucketURL("photos"))
		_, err := b.NewReader(t.Context(), "photo/missing.jpg", nil)
		require.True(t, bucket.IsMissing(t.Context(), b, err))
		require.EqualValues(t, 1, requests.Load(), "the read's")
	})
}
