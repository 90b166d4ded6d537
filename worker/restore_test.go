package worker_test

import (
	"image"
	"image/jpeg"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/audit"
	"github.com/photo-processor/photo-processor/internal/bucket"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
)

// run starts the photo's workflow, and returns its error when it has closed.
func (b *testBundle) run(t *testing.T, id uuid.UUID) error {
	t.Helper()
	run, err := b.starter().StartPhoto(t.Context(), id)
	require.NoError(t, err)
	return run.Get(t.Context(), nil)
}

// statuses returns the photos' statuses; "" for a photo that does not exist.
func (b *testBundle) statuses(t *testing.T, ids ...uuid.UUID) (all []photo.Status) {
	t.Helper()
	for _, id := range ids {
		p, err := b.db.Photo(t.Context(), id)
		if err != nil {
			require.ErrorIs(t, err, photo.ErrNotFound)
		}
		all = append(all, p.Status)
	}
	return all
}

// listMismatches returns the keys of rows of these photos that have no file,
// and of files that have no row.
func (b *testBundle) listMismatches(t *testing.T, ids ...uuid.UUID) (withoutFile, withoutRow []string) {
	t.Helper()
	files := map[string]bool{}
	dir := strings.TrimPrefix(b.cfg.ThumbnailsBucket, "file://")
	paths, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	require.NoError(t, err)
	for _, path := range paths {
		key, err := filepath.Rel(dir, path)
		require.NoError(t, err)
		files[key] = true
	}
	for _, id := range ids {
		p, err := b.db.Photo(t.Context(), id)
		if err != nil {
			require.ErrorIs(t, err, photo.ErrNotFound)
		}
		for _, thumbnail := range p.Thumbnails {
			if !files[thumbnail.Key] {
				withoutFile = append(withoutFile, thumbnail.Key)
			}
			delete(files, thumbnail.Key)
		}
	}
	for key := range files {
		withoutRow = append(withoutRow, key)
	}
	return withoutFile, withoutRow
}

// audit returns the keys of the findings, and the counts. No file is too young
// to be orphaned.
func (b *testBundle) audit(t *testing.T, prune bool) (found map[audit.Kind][]string, counts audit.Counts) {
	t.Helper()
	thumbnails, err := bucket.OpenExisting(t.Context(), b.cfg.ThumbnailsBucket)
	require.NoError(t, err)
	defer thumbnails.Close()
	found = map[audit.Kind][]string{}
	auditor := audit.Auditor{DB: b.db, Thumbnails: thumbnails, Timeout: time.Minute, Prune: prune, Report: func(f audit.Finding) error {
		found[f.Kind] = append(found[f.Kind], f.Key)
		return nil
	}}
	counts, err = auditor.Run(t.Context())
	require.NoError(t, err)
	return found, counts
}

// TestARestoredDatabase restores an older dump of PostgreSQL, but not of
// Temporal and the bucket, and then follows docs/operating.md.
func TestARestoredDatabase(t *testing.T) {
	b := setup(t)
	b.cfg.ShutdownTimeout = time.Second // for the source that does not answer
	var height atomic.Int64             // of the picture, to get different thumbnails
	height.Store(426)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/never" {
			b.asked <- struct{}{}
			<-r.Context().Done()
			return
		}
		_ = jpeg.Encode(w, image.NewGray(image.Rect(0, 0, 640, int(height.Load()))), nil)
	}))
	t.Cleanup(server.Close)
	add := func(path string) uuid.UUID {
		added, err := b.db.AddPhotos(t.Context(), []string{server.URL + path})
		require.NoError(t, err)
		return added[0].UUID
	}

	changed, later, underWay := add("/"), add("/"), add("/never")
	stop := b.work(t)
	require.NoError(t, b.run(t, changed))
	b.awaitRequest(t) // of b.photo
	dump, err := exec.Command("pg_dump", "--clean", "--if-exists", b.cfg.DatabaseURL).Output()
	require.NoError(t, err)

	// After the dump, b.photo completes, one photo gets another thumbnail, one
	// its first, one starts to fetch without end, and one is added.
	close(b.release)
	b.requireCompleted(t)
	height.Store(300)
	require.NoError(t, b.run(t, changed))
	require.NoError(t, b.run(t, later))
	_, err = b.starter().StartPhoto(t.Context(), underWay)
	require.NoError(t, err)
	b.awaitRequest(t)
	added := add("/")
	require.NoError(t, b.run(t, added))
	all := []uuid.UUID{b.photo, changed, later, underWay, added}
	require.Equal(t, []photo.Status{photo.Completed, photo.Completed, photo.Completed, photo.Processing, photo.Completed}, b.statuses(t, all...))

	stop()
	b.db.Close()
	restore := exec.Command("psql", "--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1", b.cfg.DatabaseURL)
	restore.Stdin = strings.NewReader(string(dump))
	output, err := restore.CombinedOutput()
	require.NoError(t, err, string(output))
	b.db, err = postgres.Open(b.cfg.DatabaseURL, 2)
	require.NoError(t, err)
	t.Cleanup(b.db.Close)
	require.Equal(t, []photo.Status{photo.Processing, photo.Completed, photo.Pending, photo.Pending, ""}, b.statuses(t, all...))

	b.work(t)
	require.Equal(t, activities.Reconciled{Checked: 1, Restarted: 1}, b.reconcile(t))
	b.requireCompleted(t)
	// The running workflow no longer owns its photo.
	var ended *temporal.ApplicationError
	require.ErrorAs(t, b.temporal.GetWorkflow(t.Context(), photo.WorkflowID(underWay), "").Get(t.Context(), nil), &ended)
	require.Equal(t, activities.Superseded, ended.Type())

	// The operator processes the pending photos and the photos whose files are
	// missing, and prunes the orphaned files.
	withoutFile, withoutRow := b.listMismatches(t, all...)
	require.Len(t, withoutFile, 1)
	require.Contains(t, withoutFile[0], changed.String())
	require.Len(t, withoutRow, 3) // of changed, later, added
	found, counts := b.audit(t, false)
	require.Equal(t, audit.Counts{Photos: 2, Rows: 2, Files: 4, Missing: 1, MissingPhotos: 1, Orphaned: 3}, counts)
	require.Equal(t, withoutFile, found[audit.Missing])
	require.ElementsMatch(t, withoutRow, found[audit.Orphaned])
	require.NoError(t, b.run(t, changed))
	require.NoError(t, b.run(t, later))
	require.ErrorAs(t, b.run(t, added), &ended)
	require.Equal(t, "PhotoNotFound", ended.Type())
	require.Equal(t, []photo.Status{photo.Completed, photo.Completed, photo.Completed, photo.Pending, ""}, b.statuses(t, all...))
	withoutFile, withoutRow = b.listMismatches(t, all...)
	require.Empty(t, withoutFile)
	require.Len(t, withoutRow, 1)
	require.Contains(t, withoutRow[0], added.String(), "the operator deletes it")
	_, counts = b.audit(t, true)
	require.Equal(t, audit.Counts{Photos: 3, Rows: 3, Files: 4, Orphaned: 1, Deleted: 1}, counts)
	withoutFile, withoutRow = b.listMismatches(t, all...)
	require.Empty(t, withoutFile)
	require.Empty(t, withoutRow)
}
