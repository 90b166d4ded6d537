package activities_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"gocloud.dev/blob"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/bucket"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/postgres/postgrestest"
	"github.com/photo-processor/photo-processor/internal/renderer"
	"github.com/photo-processor/photo-processor/internal/renderer/renderertest"
	"github.com/photo-processor/photo-processor/internal/source"
	"github.com/photo-processor/photo-processor/internal/sourcecache"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

// testBundle is one photo, its source, and the activities with their
// dependencies.
type testBundle struct {
	*activities.Activities
	t        *testing.T // its cleanup ends what the bundle starts
	env      *testsuite.TestActivityEnvironment
	dir      string // of the bucket and the source cache
	database string // its URL
	answer   atomic.Pointer[http.HandlerFunc]
	requests atomic.Int32 // to the source
	photo    uuid.UUID
	run      photo.Run

	thumbnails int // made by each run
}

var box = photo.Box{Width: 100, Height: 100}

func setup(t *testing.T) *testBundle {
	t.Helper()
	b := &testBundle{t: t, dir: t.TempDir()}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.requests.Add(1)
		(*b.answer.Load())(w, r)
	}))
	t.Cleanup(server.Close)
	b.serve(picture(t, 300, 200, color.White))

	fetcher, err := source.New(source.Config{AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
	require.NoError(t, err)
	t.Cleanup(fetcher.Close)
	b.database = postgrestest.URL(t)
	db, err := postgres.Open(b.database, 4)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	thumbnails := b.bucket(t, "thumbnails")
	b.Activities = &activities.Activities{
		DB:         db,
		Sources:    newSources(b.dir),
		Thumbnails: thumbnails,
		Fetcher:    fetcher,
		Format:     photo.JPEG,
		Log:        slog.New(slog.NewTextHandler(t.Output(), nil)),

		BucketProbe:   bucket.NewProbe(thumbnails),
		BucketTimeout: time.Minute,
	}
	b.fit(box)
	added, err := b.DB.AddPhotos(t.Context(), []string{server.URL + "/photo.jpg?secret=1"})
	require.NoError(t, err)
	b.photo = added[0].UUID
	b.run = photo.Run{Photo: b.photo, ID: "first", StartedAt: time.Now()}

	var suite testsuite.WorkflowTestSuite
	b.env = suite.NewTestActivityEnvironment()
	b.env.RegisterActivity(b.Activities)
	return b
}

// newSources returns a source cache that keeps every source on disk.
func newSources(dir string) *sourcecache.Cache {
	return sourcecache.New(sourcecache.Config{Dir: filepath.Join(dir, "sources"), MaxDisk: 1 << 20, MaxAge: time.Hour})
}

func (b *testBundle) bucket(t *testing.T, name string) *blob.Bucket {
	t.Helper()
	return open(t, "file://"+filepath.Join(b.dir, name))
}

func open(t *testing.T, url string) *blob.Bucket {
	t.Helper()
	opened, err := bucket.Open(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = opened.Close() })
	return opened
}

// fit replaces the renderer by one that fits thumbnails into the boxes.
func (b *testBundle) fit(boxes ...photo.Box) {
	b.thumbnails = len(boxes)
	b.Renderer = renderertest.New(b.t, renderer.Config{Options: renderer.Options{Boxes: boxes}})
}

// serve makes the source answer with the content.
func (b *testBundle) serve(content []byte) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) })
	b.answer.Store(&handler)
}

func picture(t *testing.T, width, height int, c color.Color) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	for i := range width * height {
		img.Set(i%width, i/width, c)
	}
	var buf bytes.Buffer
	require.NoError(t, jpeg.Encode(&buf, img, nil))
	return buf.Bytes()
}

// infoOf returns the SourceInfo of a JPEG.
func infoOf(content []byte) photo.SourceInfo {
	return photo.SourceInfo{Bytes: int64(len(content)), SHA256: fmt.Sprintf("%x", sha256.Sum256(content)), MediaType: "image/jpeg"}
}

// nextRun returns a run that is newer than b.run.
func (b *testBundle) nextRun() photo.Run {
	next := b.run
	next.ID, next.StartedAt = b.run.ID+"+", b.run.StartedAt.Add(time.Second)
	return next
}

func step(run photo.Run) activities.StepInput { return activities.StepInput{Run: run} }

func (b *testBundle) mark(t *testing.T, run photo.Run) {
	t.Helper()
	_, err := b.env.ExecuteActivity(b.MarkProcessing, activities.MarkProcessingInput{StepInput: step(run)})
	require.NoError(t, err)
}

func (b *testBundle) fetch(run photo.Run) (fetched *activities.FetchSourceResult, err error) {
	value, err := b.env.ExecuteActivity(b.FetchSource, activities.FetchSourceInput{StepInput: step(run)})
	if err != nil {
		return nil, err
	}
	return fetched, value.Get(&fetched)
}

func (b *testBundle) make(run photo.Run) (made *activities.MakeThumbnailsResult, err error) {
	value, err := b.env.ExecuteActivity(b.MakeThumbnails, activities.MakeThumbnailsInput{StepInput: step(run)})
	if err != nil {
		return nil, err
	}
	return made, value.Get(&made)
}

func (b *testBundle) finish(run photo.Run, failure *photo.Failure) error {
	_, err := b.env.ExecuteActivity(b.Finish, activities.FinishInput{StepInput: step(run), Thumbnails: b.thumbnails, Failure: failure})
	return err
}

// process runs all steps of the run.
func (b *testBundle) process(t *testing.T, run photo.Run) {
	t.Helper()
	b.mark(t, run)
	_, err := b.fetch(run)
	require.NoError(t, err)
	_, err = b.env.ExecuteLocalActivity(b.MakeThumbnails, activities.MakeThumbnailsInput{StepInput: step(run)})
	require.NoError(t, err)
	require.NoError(t, b.finish(run, nil))
}

func (b *testBundle) get(t *testing.T) photo.Photo {
	t.Helper()
	p, err := b.DB.Photo(t.Context(), b.photo)
	require.NoError(t, err)
	return p
}

// files lists all files of the bucket and the source cache, including
// incomplete ones.
func (b *testBundle) files(t *testing.T) []string {
	t.Helper()
	files := []string{}
	require.NoError(t, filepath.WalkDir(b.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(b.dir, path)
			files = append(files, name)
		}
		return err
	}))
	return files
}

// requireExact checks that each of the photo's rows has its file, of the right
// size, and that there are no other files.
func (b *testBundle) requireExact(t *testing.T) {
	t.Helper()
	want := []string{}
	for _, row := range b.get(t).Thumbnails {
		want = append(want, "thumbnails/"+row.Key)
		content, err := b.Thumbnails.ReadAll(t.Context(), row.Key)
		require.NoError(t, err)
		decoded, err := jpeg.DecodeConfig(bytes.NewReader(content))
		require.NoError(t, err)
		require.Equal(t, row.Size, photo.Size{Width: decoded.Width, Height: decoded.Height})
	}
	require.ElementsMatch(t, want, b.files(t))
}

func requireType(t *testing.T, err error, name string, retryable bool) *temporal.ApplicationError {
	t.Helper()
	appErr, ok := errors.AsType[*temporal.ApplicationError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, name, appErr.Type())
	require.Equal(t, retryable, !appErr.NonRetryable())
	return appErr
}
