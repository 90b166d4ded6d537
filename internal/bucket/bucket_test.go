package bucket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gocloud.dev/blob"
	_ "gocloud.dev/blob/memblob" // mem://
	"gocloud.dev/gcerrors"
	"golang.org/x/sync/errgroup"

	"github.com/photo-processor/photo-processor/internal/bucket"
	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
)

func startS3(t *testing.T) *devstacktest.S3Server {
	t.Helper()
	server, stop, err := devstacktest.S3(t.Context())
	require.NoError(t, err)
	t.Cleanup(stop)
	server.Setenv(t)
	return server
}

func openBucket(t *testing.T, url string) *blob.Bucket {
	t.Helper()
	b, err := bucket.Open(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// TestConformance runs every operation that the product needs on every
// supported kind of bucket. A new kind must pass it.
func TestConformance(t *testing.T) {
	s3 := startS3(t)
	require.NoError(t, s3.CreateBucket("photos"))
	for name, url := range map[string]string{
		"file":             "file://" + t.TempDir() + "/photos",
		"mem":              "mem://",
		"s3":               s3.BucketURL("photos"),
		"s3 with a prefix": s3.BucketURL("photos") + "&prefix=folder/",
	} {
		t.Run(name, func(t *testing.T) {
			testConformance(t, openBucket(t, url))
			if strings.HasPrefix(name, "s3") {
				// No part of an upload is left, once the server has finished.
				require.EventuallyWithT(t, func(c *assert.CollectT) {
					files, err := s3.Files("photos")
					require.NoError(c, err)
					require.Empty(c, files)
				}, 30*time.Second, 20*time.Millisecond)
			}
		})
	}
}

var asJPEG = blob.WriterOptions{ContentType: "image/jpeg", DisableContentTypeDetection: true}

func testConformance(t *testing.T, b *blob.Bucket) {
	ctx := t.Context()
	list := func(t *testing.T, prefix string) (keys []string) {
		t.Helper()
		for iter := b.List(&blob.ListOptions{Prefix: prefix}); ; {
			object, err := iter.Next(ctx)
			if errors.Is(err, io.EOF) {
				return keys
			}
			require.NoError(t, err)
			keys = append(keys, object.Key)
		}
	}
	noise := func(size int) []byte {
		content := make([]byte, size)
		_, _ = rand.NewChaCha8([32]byte{}).Read(content)
		return content
	}

	t.Run("is accessible", func(t *testing.T) {
		accessible, err := b.IsAccessible(ctx)
		require.NoError(t, err)
		require.True(t, accessible)
	})
	// The larger one is uploaded in parts.
	for _, size := range []int{1, 17 << 20} {
		t.Run(fmt.Sprintf("write %d bytes, read them, delete them", size), func(t *testing.T) {
			key, content := "photo/whole", noise(size)
			require.NoError(t, b.WriteAll(ctx, key, content, &asJPEG))
			read, err := b.ReadAll(ctx, key)
			require.NoError(t, err)
			require.True(t, bytes.Equal(content, read))
			require.NoError(t, b.Delete(ctx, key))
		})
	}
	t.Run("a canceled write leaves nothing", func(t *testing.T) {
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		require.Error(t, b.WriteAll(canceled, "photo/canceled", noise(20_000), &asJPEG))
		require.Empty(t, list(t, ""))
	})
	t.Run("a thumbnail is written twice and served", func(t *testing.T) {
		key, content := "photo/320x213-0123456789abcdef.jpg", noise(20_000)
		for range 2 {
			require.NoError(t, b.WriteAll(ctx, key, content, &asJPEG))
		}
		require.Equal(t, []string{key}, list(t, "photo/"))
		for ranges, want := range map[string]struct {
			status  int
			content []byte
		}{
			"":                 {http.StatusOK, content},
			"bytes=0-":         {http.StatusPartialContent, content},
			"bytes=100-199":    {http.StatusPartialContent, content[100:200]},
			"bytes=-1":         {http.StatusPartialContent, content[len(content)-1:]},
			"bytes=20000-":     {http.StatusRequestedRangeNotSatisfiable, nil},
			"bytes=19999-9999": {http.StatusRequestedRangeNotSatisfiable, nil},
		} {
			reader, err := b.NewReader(ctx, key, nil)
			require.NoError(t, err)
			require.WithinDuration(t, time.Now(), reader.ModTime(), time.Hour)
			req := httptest.NewRequest(http.MethodGet, "/", nil)
			req.Header.Set("Range", ranges)
			recorder := httptest.NewRecorder()
			http.ServeContent(recorder, req, key, reader.ModTime(), reader)
			require.NoError(t, reader.Close())
			require.Equal(t, want.status, recorder.Code, ranges)
			if want.content != nil {
				require.True(t, bytes.Equal(want.content, recorder.Body.Bytes()), ranges)
			}
		}
		require.NoError(t, b.Delete(ctx, key))
	})
	t.Run("missing keys", func(t *testing.T) {
		_, err := b.NewReader(ctx, "ab/missing", nil)
		require.Equal(t, gcerrors.NotFound, gcerrors.Code(err), "%v", err)
		require.Equal(t, gcerrors.NotFound, gcerrors.Code(b.Delete(ctx, "ab/missing")))
		require.Empty(t, list(t, "ab/missing"))
	})
	t.Run("lists by prefix", func(t *testing.T) {
		const n = 25
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(16)
		for i := range n {
			group.Go(func() error { return b.WriteAll(ctx, fmt.Sprintf("ab/photo.run-%d", i), []byte("x"), nil) })
		}
		group.Go(func() error { return b.WriteAll(ctx, "ab/photo2", []byte("x"), nil) })
		group.Go(func() error { return b.WriteAll(ctx, "ac/photo.", []byte("x"), nil) })
		require.NoError(t, group.Wait())
		keys := list(t, "ab/photo.")
		require.Len(t, keys, n)
		deletes, ctx := errgroup.WithContext(t.Context())
		deletes.SetLimit(16)
		for _, key := range append(keys, "ab/photo2", "ac/photo.") {
			deletes.Go(func() error { return b.Delete(ctx, key) })
		}
		require.NoError(t, deletes.Wait())
		require.Empty(t, list(t, ""))
	})
}

func TestS3ListsAllPages(t *testing.T) {
	s3 := startS3(t)
	require.NoError(t, s3.CreateBucket("photos"))
	const n = 1001 // one more than a page
	for i := range n {
		require.NoError(t, s3.AddFile("photos", fmt.Sprintf("ab/photo.run-%d", i)))
	}
	found := 0
	for iter := openBucket(t, s3.BucketURL("photos")).List(&blob.ListOptions{Prefix: "ab/photo."}); ; found++ {
		_, err := iter.Next(t.Context())
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
	}
	require.Equal(t, n, found)
}

func TestOpenErrorsContainNoSecrets(t *testing.T) {
	t.Parallel()
	const secret = `s3c"ret`
	escaped := url.QueryEscape(secret)
	file := t.TempDir() + "/file"
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for bucketURL, want := range map[string]string{
		"gs://bucket?key=" + escaped:                          "open bucket gs://bucket?key=xxxxx: ",
		"s3://id:" + escaped + "@bucket?foo=" + escaped:       `open bucket s3://xxxxx@bucket?foo=xxxxx: open bucket s3://xxxxx@bucket?foo=xxxxx: unknown query parameter "foo"`,
		"s3://bucket?use_path_style=" + escaped:               "open bucket s3://bucket?use_path_style=xxxxx: its credentials or a parameter are invalid",
		"s3://bucket?request_checksum_calculation=" + escaped: "its credentials or a parameter are invalid",
		"file:///proc/none?dir_file_mode=" + escaped:          "its credentials or a parameter are invalid",
		"file://" + file + "?foo=" + escaped:                  `invalid query parameter "foo"`,
		"file://" + file:                                      "open bucket file://" + file + ": " + file + " is not a directory",
		"bucket?key=" + escaped:                               "open bucket bucket?key=xxxxx: ",
		"s3://" + secret + "%zz":                              "bucket: not a URL",
	} {
		_, err := bucket.Open(t.Context(), bucketURL)
		require.ErrorContains(t, err, want, bucketURL)
		require.NotContains(t, err.Error(), "s3c")
	}
}

func TestOpenExistingCreatesNoDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/photos"
	_, err := bucket.OpenExisting(t.Context(), "file://"+dir+"?create_dir=true")
	require.ErrorContains(t, err, "open bucket file://"+dir)
	require.NoDirExists(t, dir)
	require.NoError(t, os.Mkdir(dir, 0o755))
	b, err := bucket.OpenExisting(t.Context(), "file://"+dir)
	require.NoError(t, err)
	require.NoError(t, b.Close())
}
