package activities_test

import (
	"image/color"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// TestAFileIsNotDeletedUnderANewerRun stalls the request that deletes the first
// run's file, until a third run has made the same thumbnail again. The stalled
// request must neither block the third run nor delete its file.
func TestAFileIsNotDeletedUnderANewerRun(t *testing.T) {
	s3, b := startS3(t), setup(t)
	s3.use(t, b)
	b.process(t, b.run)
	first := b.get(t).Thumbnails

	forward := s3.Handler()
	stalled := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			s3.answer.Store(nil)
			b.serve(picture(t, 300, 200, color.White))
			b.run = b.nextRun()
			b.process(t, b.run)
		}
		forward.ServeHTTP(w, r)
	})
	b.run = b.nextRun()
	second := b.run
	b.serve(picture(t, 300, 200, color.Black))
	b.mark(t, second)
	_, err := b.make(second)
	require.NoError(t, err)
	s3.answer.Store(&stalled)
	require.NoError(t, b.finish(second, nil))
	require.NotEqual(t, second, b.run, "a third run has finished meanwhile")

	p := b.get(t)
	require.Equal(t, photo.Completed, p.Status)
	require.NotEqual(t, first[0].Key, p.Thumbnails[0].Key, "a key that had no row is not used again")
	require.Equal(t, []string{p.Thumbnails[0].Key}, s3.files(t))
}
