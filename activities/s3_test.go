package activities_test

import (
	"image/color"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/bucket"
	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
	"github.com/photo-processor/photo-processor/internal/photo"
)

// s3 is an S3 server behind a proxy, which counts the activities' requests and
// may answer them itself.
type s3 struct {
	*devstacktest.S3Server
	proxy  *httptest.Server
	answer atomic.Pointer[http.HandlerFunc] // nil forwards

	mu       sync.Mutex
	requests map[string]int // by operation
}

func startS3(t *testing.T) *s3 {
	t.Helper()
	server, stop, err := devstacktest.S3(t.Context())
	require.NoError(t, err)
	t.Cleanup(stop)
	server.Setenv(t)
	s := &s3{S3Server: server, requests: map[string]int{}}
	forward := server.Handler()
	s.proxy = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		operation := r.Method
		if r.URL.Query().Has("list-type") {
			operation = "LIST"
		}
		s.mu.Lock()
		s.requests[operation]++
		s.mu.Unlock()
		if answer := s.answer.Load(); answer != nil {
			(*answer)(w, r)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(s.proxy.Close)
	return s
}

// takeCounts returns the number of requests by operation since the last call.
func (s *s3) takeCounts() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	counted := s.requests
	s.requests = map[string]int{}
	return counted
}

// use makes a new bucket of the server the thumbnails bucket.
func (s *s3) use(t *testing.T, b *testBundle) {
	t.Helper()
	require.NoError(t, s.DeleteBucket("thumbnails"))
	require.NoError(t, s.CreateBucket("thumbnails"))
	b.Thumbnails = open(t, s.Through(s.proxy.URL).BucketURL("thumbnails"))
	b.BucketProbe = bucket.NewProbe(b.Thumbnails)
}

func (s *s3) files(t *testing.T) []string {
	t.Helper()
	files, err := s.Files("thumbnails")
	require.NoError(t, err)
	return files
}

// TestS3RequestsOfOnePhoto counts the requests of one photo, because object
// stores charge for requests. docs/object-storage.md has the same numbers.
func TestS3RequestsOfOnePhoto(t *testing.T) {
	s3, b := startS3(t), setup(t)
	s3.use(t, b)
	b.process(t, b.run)
	require.Equal(t, map[string]int{"PUT": 1, "LIST": 1}, s3.takeCounts())
	require.Equal(t, []string{b.get(t).Thumbnails[0].Key}, s3.files(t))

	t.Run("again, with another picture", func(t *testing.T) {
		b.run = b.nextRun()
		b.serve(picture(t, 200, 300, color.Black))
		b.process(t, b.run)
		require.Equal(t, map[string]int{"PUT": 1, "LIST": 1, "HEAD": 1, "DELETE": 1}, s3.takeCounts())
		require.Equal(t, []string{b.get(t).Thumbnails[0].Key}, s3.files(t))
	})
}

// TestAClosedConnectionIsNotTheEndOfAList closes the connections of requests that
// list the photo's files: the error wraps io.EOF.
func TestAClosedConnectionIsNotTheEndOfAList(t *testing.T) {
	s3, b := startS3(t), setup(t)
	s3.use(t, b)
	b.mark(t, b.run)
	_, err := b.make(b.run)
	require.NoError(t, err)
	closing := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	})
	s3.answer.Store(&closing)
	requireType(t, b.finish(b.run, nil), activities.StorageUnavailable, true)
	s3.answer.Store(nil)
	require.NoError(t, b.finish(b.run, nil))
	require.Len(t, s3.files(t), 1)
}

// TestAFullBucketIsNotRenderedFor lets all writes fail, and nothing else: only
// the first attempt fetches and renders.
func TestAFullBucketIsNotRenderedFor(t *testing.T) {
	s3, b := startS3(t), setup(t)
	s3.use(t, b)
	var renders int
	usual := b.Renderer
	b.Renderer = stalling{usual, func() { renders++ }}
	forward := s3.Handler()
	full := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			w.WriteHeader(http.StatusInsufficientStorage)
			return
		}
		forward.ServeHTTP(w, r)
	})
	b.mark(t, b.run)
	require.NoError(t, b.BucketProbe.Check(t.Context()))
	s3.answer.Store(&full)
	for range 3 {
		_, err := b.make(b.run)
		requireType(t, err, activities.StorageUnavailable, true)
		require.ErrorContains(t, b.BucketProbe.Check(t.Context()), "the last write failed")
	}
	require.Equal(t, 1, renders)
	require.EqualValues(t, 1, b.requests.Load(), "to the source")

	s3.answer.Store(nil)
	require.NoError(t, b.BucketProbe.Check(t.Context()))
	_, err := b.make(b.run)
	require.NoError(t, err)
	require.NoError(t, b.finish(b.run, nil))
	require.Equal(t, []string{b.get(t).Thumbnails[0].Key}, s3.files(t), "no trial is left")
}

// TestS3Outages lets the object store fail in every way at every step: each is
// an infrastructure error, and never fails the photo.
func TestS3Outages(t *testing.T) {
	s3, b := startS3(t), setup(t)
	b.BucketTimeout = time.Second
	refuse := func(status int, code string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "<Error><Code>"+code+"</Code><Message>no</Message></Error>")
		}
	}
	for name, answer := range map[string]http.HandlerFunc{
		"down": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"silent": func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // net/http detects a closed connection only after the body is read
			<-r.Context().Done()
		},
		"overloaded": refuse(http.StatusServiceUnavailable, "SlowDown"),
		"full":       refuse(http.StatusInsufficientStorage, "InsufficientStorage"),
		"refused":    refuse(http.StatusForbidden, "AccessDenied"),
		"no bucket":  refuse(http.StatusNotFound, "NoSuchBucket"),
	} {
		t.Run(name, func(t *testing.T) {
			s3.use(t, b)
			b.run = b.nextRun()
			b.mark(t, b.run)
			requireStorageError := func(t *testing.T, step func() error) {
				t.Helper()
				s3.answer.Store(&answer)
				err := step()
				s3.answer.Store(nil)
				appErr := requireType(t, err, activities.StorageUnavailable, true)
				require.Contains(t, appErr.Message(), "the thumbnails bucket cannot be used")
			}
			requireStorageError(t, func() error { _, err := b.make(b.run); return err })
			_, err := b.make(b.run)
			require.NoError(t, err)
			requireStorageError(t, func() error { return b.finish(b.run, nil) })
			require.NoError(t, b.finish(b.run, nil))
			require.Equal(t, photo.Completed, b.get(t).Status)
			require.Len(t, s3.files(t), 1)
		})
	}
}
