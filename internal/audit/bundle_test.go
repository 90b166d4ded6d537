package audit_test

import (
	"context"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/audit"
	"github.com/photo-processor/photo-processor/internal/bucket"
	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/postgres/postgrestest"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

const (
	small = "100x67-0123456789abcdef-01234567.jpg"
	large = "320x213-0123456789abcdef-01234567.jpg"
	newer = "320x213-fedcba9876543210-76543210.jpg"
)

// testBundle is a database, a bucket, and an auditor of both that takes files
// of any age for settled.
type testBundle struct {
	*audit.Auditor
	db       *postgres.DB
	conn     *pgx.Conn
	dir      string                 // of the bucket, unless it is in S3
	s3       *devstacktest.S3Server // of the bucket, or nil
	findings []audit.Finding

	// Called by the auditor's reads, if they are not nil.
	afterList  func()
	beforeKeys func()
	keysReads  atomic.Int32 // number of second looks at rows
}

func (b *testBundle) ListThumbnailRows(ctx context.Context, after postgres.ThumbnailRow, limit int) ([]postgres.ThumbnailRow, error) {
	rows, err := b.db.ListThumbnailRows(ctx, after, limit)
	if b.afterList != nil {
		b.afterList()
	}
	return rows, err
}

func (b *testBundle) ThumbnailKeys(ctx context.Context, id uuid.UUID) (photo.Status, []string, error) {
	b.keysReads.Add(1)
	if b.beforeKeys != nil {
		b.beforeKeys()
	}
	return b.db.ThumbnailKeys(ctx, id)
}

func setup(t *testing.T) *testBundle {
	t.Helper()
	dir := t.TempDir()
	b := setupBucket(t, "file://"+dir)
	b.dir = dir
	return b
}

func setupBucket(t *testing.T, bucketURL string) *testBundle {
	t.Helper()
	url := postgrestest.URL(t)
	db, err := postgres.Open(url, 8)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	thumbnails, err := bucket.OpenExisting(t.Context(), bucketURL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = thumbnails.Close() })
	b := &testBundle{db: db, conn: conn}
	b.Auditor = &audit.Auditor{DB: b, Thumbnails: thumbnails, Timeout: time.Minute, Report: func(f audit.Finding) error {
		b.findings = append(b.findings, f)
		return nil
	}}
	return b
}

// forEachBucket runs the test with a directory and with S3.
func forEachBucket(t *testing.T, test func(t *testing.T, b *testBundle)) {
	t.Run("file", func(t *testing.T) { test(t, setup(t)) })
	t.Run("s3", func(t *testing.T) {
		s3, stop, err := devstacktest.S3(t.Context())
		require.NoError(t, err)
		t.Cleanup(stop)
		s3.Setenv(t)
		require.NoError(t, s3.CreateBucket("photos"))
		b := setupBucket(t, s3.BucketURL("photos"))
		b.s3 = s3
		test(t, b)
	})
}

func (b *testBundle) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	_, err := b.conn.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

func (b *testBundle) write(t *testing.T, key string, size int) {
	t.Helper()
	if b.s3 != nil && size == 1 { // much faster
		require.NoError(t, b.s3.AddFile("photos", key))
		return
	}
	require.NoError(t, b.Thumbnails.WriteAll(t.Context(), key, make([]byte, size), nil))
}

func (b *testBundle) delete(t *testing.T, key string) {
	t.Helper()
	require.NoError(t, b.Thumbnails.Delete(t.Context(), key))
}

// files lists the bucket's keys.
func (b *testBundle) files(t *testing.T) (keys []string) {
	t.Helper()
	objects, iterationError := b.Thumbnails.List(nil).All(t.Context())
	for object := range objects {
		keys = append(keys, object.Key)
	}
	require.NoError(t, iterationError())
	return keys
}

// mark adds a photo that a run has marked processing.
func (b *testBundle) mark(t *testing.T) photo.Run {
	t.Helper()
	added, err := b.db.AddPhotos(t.Context(), []string{"https://photos.example/1.jpg"})
	require.NoError(t, err)
	run := photo.Run{Photo: added[0].UUID, ID: "first", StartedAt: time.Now()}
	_, err = b.db.MarkProcessing(t.Context(), run)
	require.NoError(t, err)
	return run
}

var aSource = photo.SourceInfo{Bytes: 1, SHA256: strings.Repeat("0", 64), MediaType: "image/jpeg"}

func (b *testBundle) publish(t *testing.T, run photo.Run, keys ...string) {
	t.Helper()
	var thumbnails []photo.Thumbnail
	for i, key := range keys {
		thumbnails = append(thumbnails, photo.Thumbnail{Size: photo.Size{Width: i + 1, Height: 1}, Key: key})
	}
	require.NoError(t, b.db.PublishThumbnails(t.Context(), run, aSource, thumbnails, nil))
}

func (b *testBundle) finish(t *testing.T, run photo.Run) {
	t.Helper()
	_, _, err := b.db.Finish(t.Context(), run, nil)
	require.NoError(t, err)
}

// add adds a completed photo with a row and a file for each name, and returns
// their keys.
func (b *testBundle) add(t *testing.T, names ...string) (id uuid.UUID, keys []string) {
	t.Helper()
	run := b.mark(t)
	for _, name := range names {
		key := run.Photo.String() + "/" + name
		b.write(t, key, 1)
		keys = append(keys, key)
	}
	b.publish(t, run, keys...)
	b.finish(t, run)
	return run.Photo, keys
}
