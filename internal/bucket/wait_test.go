package bucket_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/bucket"
)

// logLines receives the lines of a log.
type logLines chan string

func (w logLines) Write(line []byte) (int, error) {
	w <- string(line)
	return len(line), nil
}

func TestWaitUntilReady(t *testing.T) {
	s3 := startS3(t)
	require.NoError(t, s3.CreateBucket("photos"))
	waitUntilReady := func(ctx context.Context, t *testing.T, url string, log io.Writer) error {
		t.Helper()
		return bucket.WaitUntilReady(ctx, slog.New(slog.NewTextHandler(log, nil)), "THUMBNAILS_BUCKET", openBucket(t, url), 10*time.Second)
	}
	t.Run("ready", func(t *testing.T) {
		require.NoError(t, waitUntilReady(t.Context(), t, s3.BucketURL("photos"), t.Output()))
		require.NoError(t, waitUntilReady(t.Context(), t, "file://"+t.TempDir(), t.Output()))
	})
	otherService := httptest.NewServer(http.NotFoundHandler())
	defer otherService.Close()
	for name, test := range map[string]struct {
		url  string
		env  map[string]string
		want string
	}{
		"no such bucket":  {url: s3.BucketURL("nobodys"), want: "there is no such bucket"},
		"wrong secret":    {env: map[string]string{"AWS_SECRET_ACCESS_KEY": "wrong"}, want: "AWS_SECRET_ACCESS_KEY"},
		"unknown key":     {env: map[string]string{"AWS_ACCESS_KEY_ID": "wrong"}, want: "AWS_ACCESS_KEY_ID"},
		"no credentials":  {env: map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, want: "no credentials; set AWS_ACCESS_KEY_ID"},
		"another region":  {url: strings.Replace(s3.BucketURL("photos"), "us-east-1", "eu-west-1", 1), want: "check the bucket's URL"},
		"another service": {url: "s3://photos?region=us-east-1&use_path_style=true&endpoint=" + otherService.URL, want: "no such bucket"},
	} {
		t.Run(name, func(t *testing.T) {
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			if test.url == "" {
				test.url = s3.BucketURL("photos")
			}
			err := waitUntilReady(t.Context(), t, test.url, t.Output())
			require.ErrorContains(t, err, "THUMBNAILS_BUCKET: ")
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), "\n", "one line")
		})
	}
	t.Run("waits for an overloaded server", func(t *testing.T) {
		recovered := make(chan struct{})
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-recovered:
				s3.Handler().ServeHTTP(w, r)
			default:
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}))
		defer server.Close()
		log, ended := make(logLines, 100), make(chan error, 1)
		go func() { ended <- waitUntilReady(t.Context(), t, s3.Through(server.URL).BucketURL("photos"), log) }()
		require.Contains(t, <-log, "waiting for THUMBNAILS_BUCKET")
		close(recovered)
		require.NoError(t, <-ended)
	})
	t.Run("returns nil when the context ends", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		log, ended := make(logLines, 100), make(chan error, 1)
		go func() {
			ended <- waitUntilReady(ctx, t, "s3://photos?region=us-east-1&use_path_style=true&endpoint=http://127.0.0.1:1", log)
		}()
		require.Contains(t, <-log, "connection refused")
		cancel(errors.New("asked to stop"))
		require.NoError(t, <-ended)
	})
}
