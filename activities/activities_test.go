package activities_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
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

// testBundle is one photo, everything its activities work with, and a source
// that answers as the test says.
type testBundle struct {
	*activities.Activities
	t        *testing.T // what lives as long as the bundle lives as long as this
	env      *testsuite.TestActivityEnvironment
	dir      string // holds all files
	database string // its URL
	answer   atomic.Pointer[http.HandlerFunc]
	requests atomic.Int32 // to the source
	photo    uuid.UUID
	run      photo.Run

	thumbnails int // how many each run makes
}

var box = photo.Size{Width: 100, Height: 100}

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
	b.Activities = &activities.Activities{
		DB:         db,
		Sources:    newSources(b.dir),
		Thumbnails: b.bucket(t, "thumbnails"),
		Fetcher:    fetcher,
		Format:     photo.JPEG,
		Log:        slog.New(slog.NewTextHandler(t.Output(), nil)),

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

// newSources returns a cache that keeps every source in a file.
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

// fit has thumbnails fitted into the boxes from now on.
func (b *testBundle) fit(boxes ...photo.Size) {
	b.thumbnails = len(boxes)
	b.Renderer = renderertest.New(b.t, renderer.Config{Options: renderer.Options{Boxes: boxes}})
}

// serve has the source answer with the content from now on.
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

// infoOf describes a JPEG's bytes.
func infoOf(content []byte) photo.SourceInfo {
	return photo.SourceInfo{Bytes: int64(len(content)), SHA256: fmt.Sprintf("%x", sha256.Sum256(content)), MediaType: "image/jpeg"}
}

// nextRun is a run that takes over from the one before.
func (b *testBundle) nextRun() photo.Run {
	next := b.run
	next.ID, next.StartedAt = b.run.ID+"+", b.run.StartedAt.Add(time.Second)
	return next
}

func step(run photo.Run) activities.Step { return activities.Step{Run: run} }

func (b *testBundle) mark(t *testing.T, run photo.Run) {
	t.Helper()
	_, err := b.env.ExecuteActivity(b.MarkProcessing, activities.MarkProcessingInput{Step: step(run)})
	require.NoError(t, err)
}

func (b *testBundle) fetch(run photo.Run) (fetched *activities.FetchSourceResult, err error) {
	value, err := b.env.ExecuteActivity(b.FetchSource, activities.FetchSourceInput{Step: step(run)})
	if err != nil {
		return nil, err
	}
	return fetched, value.Get(&fetched)
}

func (b *testBundle) make(run photo.Run) (made *activities.MakeThumbnailsResult, err error) {
	value, err := b.env.ExecuteActivity(b.MakeThumbnails, activities.MakeThumbnailsInput{Step: step(run)})
	if err != nil {
		return nil, err
	}
	return made, value.Get(&made)
}

func (b *testBundle) finish(run photo.Run, failure *photo.Failure) error {
	_, err := b.env.ExecuteActivity(b.Finish, activities.FinishInput{Step: step(run), Thumbnails: b.thumbnails, Failure: failure})
	return err
}

// process takes the photo through all steps.
func (b *testBundle) process(t *testing.T, run photo.Run) {
	t.Helper()
	b.mark(t, run)
	_, err := b.fetch(run)
	require.NoError(t, err)
	_, err = b.env.ExecuteLocalActivity(b.MakeThumbnails, activities.MakeThumbnailsInput{Step: step(run)})
	require.NoError(t, err)
	require.NoError(t, b.finish(run, nil))
}

func (b *testBundle) get(t *testing.T) photo.Photo {
	t.Helper()
	p, err := b.DB.Photo(t.Context(), b.photo)
	require.NoError(t, err)
	return p
}

// files gives the names of all files that were left, half-written ones too.
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

// requireExact checks that the photo's rows and files are each other's.
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

func TestAPhotoFromMarkToFinish(t *testing.T) {
	b := setup(t)
	content := picture(t, 300, 200, color.White)
	want := infoOf(content)
	b.mark(t, b.run)
	require.Equal(t, photo.Processing, b.get(t).Status)

	for range 2 { // each may be repeated
		fetched, err := b.fetch(b.run)
		require.NoError(t, err)
		require.Equal(t, want, fetched.SourceInfo)
	}
	require.EqualValues(t, 1, b.requests.Load(), "the source is in the cache")
	for i := range 2 {
		made, err := b.make(b.run)
		require.NoError(t, err)
		require.Equal(t, want, made.Source)
		require.Equal(t, []string{"100x67"}, made.Thumbnails)
		require.Equal(t, i == 1, made.FetchedAgain)
	}
	for range 2 {
		require.NoError(t, b.finish(b.run, nil))
	}

	p := b.get(t)
	require.Equal(t, photo.Completed, p.Status)
	require.Len(t, p.Thumbnails, 1)
	require.Equal(t, photo.Size{Width: 100, Height: 67}, p.Thumbnails[0].Size)
	b.requireExact(t)
}

func TestProcessingAgain(t *testing.T) {
	b := setup(t)
	b.fit(box, photo.Size{Width: 50, Height: 50})
	b.process(t, b.run)
	first := b.get(t).Thumbnails
	require.Len(t, first, 2)

	t.Run("changes nothing when nothing has changed", func(t *testing.T) {
		b.run = b.nextRun()
		b.process(t, b.run)
		require.Equal(t, first, b.get(t).Thumbnails)
		b.requireExact(t)
	})
	t.Run("with other sizes", func(t *testing.T) {
		b.run = b.nextRun()
		b.fit(box, photo.Size{Width: 200, Height: 200})
		b.process(t, b.run)
		second := b.get(t).Thumbnails
		require.Len(t, second, 2)
		require.Equal(t, first[1], second[0], "100x67 is as it was")
		require.Equal(t, 200, second[1].Size.Width)
		b.requireExact(t)
	})
	t.Run("with another source of the same size", func(t *testing.T) {
		b.run = b.nextRun()
		b.serve(picture(t, 300, 200, color.Black))
		before := b.get(t).Thumbnails
		b.process(t, b.run)
		after := b.get(t).Thumbnails
		require.Len(t, after, 2)
		require.NotEqual(t, before[0].Key, after[0].Key)
		b.requireExact(t)
	})
	t.Run("that fails keeps what there was", func(t *testing.T) {
		b.run = b.nextRun()
		before := b.get(t).Thumbnails
		b.mark(t, b.run)
		require.NoError(t, b.finish(b.run, photo.Fail(photo.CorruptImage, "cannot be decoded")))
		p := b.get(t)
		require.Equal(t, photo.Failed, p.Status)
		require.Equal(t, photo.CorruptImage, p.Failure.Code)
		require.Equal(t, before, p.Thumbnails)
		b.requireExact(t)
	})
}

func TestSourceFailures(t *testing.T) {
	for name, test := range map[string]struct {
		answer    http.HandlerFunc
		code      photo.Code
		retryable bool
	}{
		"404": {status(404), photo.SourceNotFound, false},
		"403": {status(403), photo.SourceForbidden, false},
		"500": {status(500), photo.SourceUnavailable, true},
		"cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "too little")
		}, photo.SourceUnavailable, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			b.answer.Store(&test.answer)
			b.mark(t, b.run)
			_, err := b.fetch(b.run)
			requireType(t, err, string(test.code), test.retryable)
			require.NotContains(t, err.Error(), "secret", "the URL stays out of histories")
			require.Empty(t, b.files(t), "nothing half-written is left")
		})
	}
	t.Run("429 with Retry-After", func(t *testing.T) {
		b := setup(t)
		answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "77")
			w.WriteHeader(http.StatusTooManyRequests)
		})
		b.answer.Store(&answer)
		b.mark(t, b.run)
		_, err := b.fetch(b.run)
		appErr := requireType(t, err, string(photo.SourceUnavailable), true)
		require.Equal(t, 77*time.Second, appErr.NextRetryDelay())
	})
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func TestPictureFailures(t *testing.T) {
	b := setup(t)
	for name, test := range map[string]struct {
		content   []byte
		renderer  activities.Renderer
		wantType  string
		retryable bool
	}{
		"not an image": {content: []byte("<html>"), wantType: string(photo.UnsupportedImage)},
		"truncated":    {content: picture(t, 300, 200, color.White)[:700], wantType: string(photo.CorruptImage)},
		"crash":        {renderer: failing{photo.Fail(photo.RenderCrashed, "crashed")}, wantType: string(photo.RenderCrashed), retryable: true},
		"a defect":     {renderer: failing{errors.New("password=hunter2")}, wantType: string(photo.Internal), retryable: true},
	} {
		t.Run(name, func(t *testing.T) {
			b.run = b.nextRun()
			b.mark(t, b.run)
			if test.content != nil {
				b.serve(test.content)
			}
			usual := b.Renderer
			defer func() { b.Renderer = usual }()
			if test.renderer != nil {
				b.Renderer = test.renderer
			}
			_, err := b.make(b.run)
			requireType(t, err, test.wantType, test.retryable)
			require.NotContains(t, err.Error(), "hunter2", "details of defects are for the log")
		})
	}
	require.NoError(t, b.finish(b.run, photo.Fail(photo.CorruptImage, "x")))
	require.Empty(t, b.files(t))
}

// failing is a renderer that fails.
type failing struct{ err error }

func (f failing) Render(context.Context, renderer.Source) ([]photo.Picture, error) { return nil, f.err }

func TestPhotoThatIsNotThere(t *testing.T) {
	b := setup(t)
	missing := photo.Run{Photo: uuid.New(), ID: "run", StartedAt: time.Now()}
	_, err := b.env.ExecuteActivity(b.MarkProcessing, activities.MarkProcessingInput{Step: step(missing)})
	requireType(t, err, "PhotoNotFound", false)
	require.NoError(t, b.finish(missing, nil), "deleted meanwhile: nothing is left to do")
}

// TestALateRunChangesNothing has an old run wake up at each step, after a newer
// one has taken the photo or has finished it.
func TestALateRunChangesNothing(t *testing.T) {
	for _, finished := range []bool{false, true} {
		t.Run(fmt.Sprintf("newer run finished=%v", finished), func(t *testing.T) {
			b := setup(t)
			old, newer := b.run, b.nextRun()
			b.mark(t, old)

			takeOver := func() {
				b.mark(t, newer)
				_, err := b.make(newer)
				require.NoError(t, err)
				if finished {
					require.NoError(t, b.finish(newer, nil))
				}
			}
			// The old run has its picture, of another size and content, when it
			// falls asleep.
			b.serve(picture(t, 200, 300, color.Black))
			b.onceRendered(func() {
				b.serve(picture(t, 300, 200, color.White))
				takeOver()
			})
			_, err := b.make(old)
			requireType(t, err, activities.Superseded, false)
			before := b.get(t)
			require.Equal(t, photo.Size{Width: 100, Height: 67}, before.Thumbnails[0].Size, "the newer run's")

			_, err = b.env.ExecuteActivity(b.MarkProcessing, activities.MarkProcessingInput{Step: step(old)})
			requireType(t, err, activities.Superseded, false)
			_, err = b.make(old)
			requireType(t, err, activities.Superseded, false)
			requireType(t, b.finish(old, photo.Fail(photo.Canceled, "late")), activities.Superseded, false)

			require.Equal(t, before, b.get(t))
			if !finished {
				require.NoError(t, b.finish(newer, nil))
			}
			b.requireExact(t)
		})
	}
}

// sleeper is a renderer that falls asleep when its pictures are made.
type sleeper struct {
	activities.Renderer
	sleep func()
}

func (s sleeper) Render(ctx context.Context, source renderer.Source) ([]photo.Picture, error) {
	pictures, err := s.Renderer.Render(ctx, source)
	s.sleep()
	return pictures, err
}

// onceRendered has the next attempt fall asleep when it has its pictures, until
// do, in which the renderer is the usual one, has returned.
func (b *testBundle) onceRendered(do func()) {
	usual := b.Renderer
	b.Renderer = sleeper{usual, func() {
		b.Renderer = usual
		do()
	}}
}

// TestASourceThatIsNotInTheCache fetches on one worker and goes on with another, or
// after a restart, when the source has changed.
func TestASourceThatIsNotInTheCache(t *testing.T) {
	b := setup(t)
	b.mark(t, b.run)
	fetched, err := b.fetch(b.run)
	require.NoError(t, err)
	b.Sources = newSources(b.dir)
	content := picture(t, 200, 300, color.Black)
	b.serve(content)
	made, err := b.make(b.run)
	require.NoError(t, err)
	require.True(t, made.FetchedAgain)
	require.NotEqual(t, fetched.SourceInfo, made.Source)
	require.NoError(t, b.finish(b.run, nil))

	// Facts and thumbnails are those of the same bytes.
	want := infoOf(content)
	require.Equal(t, want, made.Source)
	var stored photo.SourceInfo
	conn, err := pgx.Connect(t.Context(), b.database)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT source_bytes, source_sha256, source_media_type FROM photos`).
		Scan(&stored.Bytes, &stored.SHA256, &stored.MediaType))
	require.Equal(t, want, stored)
	require.Equal(t, photo.Size{Width: 67, Height: 100}, b.get(t).Thumbnails[0].Size)
	b.requireExact(t)
}

// TestStartPage has an attempt fail half-way; the next goes on there.
func TestStartPage(t *testing.T) {
	b := setup(t)
	ids := make(photo.IDs, 50)
	for i := range ids {
		ids[i] = uuid.New()
	}
	var mu sync.Mutex
	var now, most int
	var started []uuid.UUID
	b.StartConcurrency = 3
	b.StartInBatch = func(_ context.Context, id uuid.UUID) error {
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		runtime.Gosched()
		mu.Lock()
		defer mu.Unlock()
		now--
		if len(started) == 20 {
			return errors.New("unavailable")
		}
		started = append(started, id)
		return nil
	}
	var progress activities.StartPageProgress
	b.env.SetOnActivityHeartbeatListener(func(_ *activity.Info, details converter.EncodedValues) {
		require.NoError(t, details.Get(&progress))
	})
	_, err := b.env.ExecuteActivity(b.StartPage, activities.StartPageInput{Photos: ids})
	require.ErrorContains(t, err, "unavailable")
	require.EqualValues(t, 18, progress.Started, "of the last three, one failed")
	require.LessOrEqual(t, most, 3)

	started = nil
	b.env.SetHeartbeatDetails(progress)
	_, err = b.env.ExecuteActivity(b.StartPage, activities.StartPageInput{Photos: ids[:37]})
	require.NoError(t, err)
	require.ElementsMatch(t, ids[18:37], started)

	started = nil
	b.env.SetHeartbeatDetails("of another version")
	_, err = b.env.ExecuteActivity(b.StartPage, activities.StartPageInput{Photos: ids[:7]})
	require.NoError(t, err)
	require.ElementsMatch(t, ids[:7], started)
}

// TestADefectOfReconcilePage is in the log, and not in the history.
func TestADefectOfReconcilePage(t *testing.T) {
	b := setup(t)
	var log bytes.Buffer
	b.Log = slog.New(slog.NewTextHandler(&log, nil))
	b.DB.Close()
	_, err := b.env.ExecuteActivity(b.ReconcilePage, activities.ReconcilePageInput{Limit: 1})
	appErr := requireType(t, err, string(photo.Internal), true)
	require.NotContains(t, appErr.Message(), "closed pool")
	require.Contains(t, log.String(), "closed pool")
}

func TestOutages(t *testing.T) {
	t.Run("PostgreSQL", func(t *testing.T) {
		b := setup(t)
		db, err := postgres.Open("postgres://photos@127.0.0.1:1/photos", 1)
		require.NoError(t, err)
		t.Cleanup(db.Close)
		b.DB = db
		_, err = b.env.ExecuteActivity(b.MarkProcessing, activities.MarkProcessingInput{Step: step(b.run)})
		requireType(t, err, activities.DatabaseUnavailable, true)
		_, err = b.fetch(b.run)
		requireType(t, err, activities.DatabaseUnavailable, true)
		_, err = b.make(b.run)
		requireType(t, err, activities.DatabaseUnavailable, true)
		requireType(t, b.finish(b.run, nil), activities.DatabaseUnavailable, true)
	})
	t.Run("the disk for sources", func(t *testing.T) {
		b := setup(t)
		b.mark(t, b.run)
		b.breakDirectory(t, "sources")
		_, err := b.fetch(b.run)
		requireType(t, err, activities.StorageUnavailable, true)
	})
	t.Run("thumbnails bucket", func(t *testing.T) {
		b := setup(t)
		b.mark(t, b.run)
		b.breakDirectory(t, "thumbnails")
		_, err := b.make(b.run)
		requireType(t, err, activities.StorageUnavailable, true)
		require.Empty(t, b.get(t).Thumbnails)
	})
}

// breakDirectory puts a file where the directory was, which stops root as well.
func (b *testBundle) breakDirectory(t *testing.T, name string) {
	t.Helper()
	dir := filepath.Join(b.dir, name)
	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, os.WriteFile(dir, nil, 0o600))
}

// TestFetchOfAWorkerThatStops ends the context as a worker does whose time to
// stop is over.
func TestFetchOfAWorkerThatStops(t *testing.T) {
	b := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	arrived := make(chan struct{})
	answer := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	})
	b.answer.Store(&answer)
	b.mark(t, b.run)
	go func() {
		<-arrived
		cancel()
	}()
	b.env.SetWorkerOptions(worker.Options{BackgroundActivityContext: ctx})
	_, err := b.fetch(b.run)
	appErr, ok := errors.AsType[*temporal.ApplicationError](err)
	require.True(t, ok)
	require.False(t, appErr.NonRetryable(), "another worker tries again")
	require.NotContains(t, codes, photo.Code(appErr.Type()), "it is no failure of the photo")
	require.Empty(t, b.files(t))
}

var codes = []photo.Code{photo.SourceUnavailable, photo.SourceTimeout, photo.Internal, photo.Canceled}
