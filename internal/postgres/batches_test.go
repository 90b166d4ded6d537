package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
)

// addPhotos adds n pending photos.
func (b testBundle) addPhotos(t *testing.T, n int) []uuid.UUID {
	t.Helper()
	urls := make([]string, n)
	for i := range urls {
		urls[i] = fmt.Sprintf("https://photos.example/%d.jpg", i)
	}
	photos, err := b.db.AddPhotos(t.Context(), urls)
	require.NoError(t, err)
	ids := make([]uuid.UUID, n)
	for i, p := range photos {
		ids[i] = p.UUID
	}
	return ids
}

// process has a new run process the photo, and returns the run.
func (b testBundle) process(t *testing.T, id uuid.UUID, failure *photo.Failure) photo.Run {
	t.Helper()
	run := b.begin(t, id)
	require.NoError(t, finish(t, b.db, run, failure))
	return run
}

// begin has a new run mark the photo.
func (b testBundle) begin(t *testing.T, id uuid.UUID) photo.Run {
	t.Helper()
	run := photo.Run{Photo: id, ID: uuid.NewString(), StartedAt: time.Now()}
	require.NoError(t, mark(t, b.db, run))
	return run
}

// requireBatch checks the counts of a batch, as "pending processing completed
// failed".
func (b testBundle) requireBatch(t *testing.T, id uuid.UUID, want string, done bool) photo.Batch {
	t.Helper()
	batch, err := b.db.Batch(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, want, fmt.Sprint(batch.Pending, batch.Processing, batch.Completed, batch.Failed))
	require.Equal(t, done, !batch.DoneAt.IsZero())
	return batch
}

func TestBatchCountsOutcomesOfItsOwnRuns(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ids := b.addPhotos(t, 3)
	b.process(t, ids[0], nil) // before the batch
	running := b.begin(t, ids[1])
	missing := uuid.New()
	batch := uuid.New()
	all := append(ids, missing)
	require.NoError(t, b.db.CreateBatch(t.Context(), batch, all))
	require.NoError(t, b.db.CreateBatch(t.Context(), batch, all[:1]), "again, without effect")
	got := b.requireBatch(t, batch, "2 1 0 1", false)
	require.Equal(t, map[photo.Code]int{photo.NotFound: 1}, got.Failures)

	require.NoError(t, finish(t, b.db, running, nil))
	b.requireBatch(t, batch, "3 0 0 1", false) // this outcome may not be the batch's
	require.NoError(t, b.db.JoinRuns(t.Context(), batch, []postgres.BatchPhoto{{Photo: ids[1], Run: running.ID}, {Photo: ids[0], Run: "another"}}))
	b.requireBatch(t, batch, "2 0 1 1", false) // the run was open when the photo was started
	b.process(t, ids[0], nil)
	b.process(t, ids[2], aFailure)
	b.requireBatch(t, batch, "0 0 2 2", false) // more photos may be added
	require.NoError(t, b.db.EndBatch(t.Context(), batch, false, nil))
	got = b.requireBatch(t, batch, "0 0 2 2", true)
	require.Equal(t, map[photo.Code]int{photo.NotFound: 1, photo.SourceForbidden: 1}, got.Failures)
	require.False(t, got.Canceled)

	b.process(t, ids[2], nil)
	require.Equal(t, got, b.requireBatch(t, batch, "0 0 2 2", true), "a later run changes nothing")
}

func TestStartedBatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ids := b.addPhotos(t, 2)
	old := b.process(t, ids[0], nil)
	joined := b.process(t, ids[1], aFailure)
	batch := uuid.New()
	photos := []postgres.BatchPhoto{{Photo: ids[0], Run: "new", OldRun: old.ID}, {Photo: ids[1], Run: joined.ID, OldRun: joined.ID}}
	require.NoError(t, b.db.CreateStartedBatch(t.Context(), batch, photos))
	b.requireBatch(t, batch, "1 0 0 1", false)
	b.process(t, ids[0], nil)
	b.requireBatch(t, batch, "0 0 1 1", true)
}

func TestCanceledBatchLosesThePhotosThatWereNotStarted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ids := b.addPhotos(t, 3)
	batch := uuid.New()
	require.NoError(t, b.db.CreateBatch(t.Context(), batch, ids))
	require.NoError(t, b.db.EndBatch(t.Context(), batch, true, ids[1:]))
	require.True(t, b.requireBatch(t, batch, "1 0 0 0", false).Canceled)
	b.process(t, ids[0], nil)
	b.requireBatch(t, batch, "0 0 1 0", true)
}

func TestAbandonBatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ids := b.addPhotos(t, 3)
	lost, open := uuid.New(), uuid.New()
	require.NoError(t, b.db.CreateBatch(t.Context(), lost, ids))
	require.NoError(t, b.db.CreateBatch(t.Context(), open, ids))
	b.process(t, ids[0], nil)
	run := b.begin(t, ids[1])
	unstarted, err := b.db.UnstartedBatches(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{lost, open}, unstarted)
	unstarted, err = b.db.UnstartedBatches(t.Context(), time.Hour, 10)
	require.NoError(t, err)
	require.Empty(t, unstarted)

	require.NoError(t, b.db.AbandonBatch(t.Context(), lost))
	require.True(t, b.requireBatch(t, lost, "0 1 1 0", false).Canceled)
	b.requireBatch(t, open, "1 1 1 0", false)
	require.NoError(t, finish(t, b.db, run, nil))
	b.requireBatch(t, lost, "0 0 2 0", true)
}

func TestSelectPage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ids := b.addPhotos(t, 5)
	for _, id := range ids[:3] {
		b.process(t, id, aFailure)
	}
	b.process(t, ids[3], photo.Fail(photo.SourceTimeout, "slow"))
	batch := uuid.New()
	require.NoError(t, b.db.CreateEmptyBatch(t.Context(), batch, "status=failed"))
	selection := photo.Selection{Status: photo.Failed, Code: photo.SourceForbidden}
	first, next, err := b.db.SelectPage(t.Context(), batch, selection, postgres.Cursor{}, 2)
	require.NoError(t, err)
	require.Equal(t, ids[:2], first)
	again, _, err := b.db.SelectPage(t.Context(), batch, selection, postgres.Cursor{}, 2)
	require.NoError(t, err)
	require.Equal(t, first, again)
	second, next, err := b.db.SelectPage(t.Context(), batch, selection, next, 2)
	require.NoError(t, err)
	require.Equal(t, ids[2:3], second)
	third, _, err := b.db.SelectPage(t.Context(), batch, selection, next, 2)
	require.NoError(t, err)
	require.Empty(t, third)
	require.Equal(t, "status=failed", b.requireBatch(t, batch, "3 0 0 0", false).Query)

	selection = photo.Selection{Status: photo.Failed, CreatedBefore: b.createdAt(t, ids[1])}
	all, _, err := b.db.SelectPage(t.Context(), batch, selection, postgres.Cursor{}, 10)
	require.NoError(t, err)
	require.Equal(t, ids[:1], all)
}

func (b testBundle) createdAt(t *testing.T, id uuid.UUID) time.Time {
	t.Helper()
	p, err := b.db.Photo(t.Context(), id)
	require.NoError(t, err)
	return p.CreatedAt
}

func TestListBatches(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var batches []uuid.UUID
	for range 5 {
		id := uuid.New()
		require.NoError(t, b.db.CreateBatch(t.Context(), id, []uuid.UUID{b.photo}))
		batches = append(batches, id)
	}
	require.NoError(t, b.db.EndBatch(t.Context(), batches[4], true, []uuid.UUID{b.photo}))
	page, err := b.db.Batches(t.Context(), postgres.Cursor{}, 3)
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{batches[4], batches[3], batches[2]}, batchIDs(page))
	page, err = b.db.Batches(t.Context(), postgres.Cursor{CreatedAt: page[2].CreatedAt, UUID: page[2].ID}, 3)
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{batches[1], batches[0]}, batchIDs(page))
	open, err := b.db.OpenBatches(t.Context(), 10)
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{batches[3], batches[2], batches[1], batches[0]}, batchIDs(open))
	require.NoError(t, b.db.DeleteBatches(t.Context(), time.Hour))
	_, err = b.db.Batch(t.Context(), batches[0])
	require.NoError(t, err)
	require.NoError(t, b.db.DeleteBatches(t.Context(), 0))
	_, err = b.db.Batch(t.Context(), batches[0])
	require.ErrorIs(t, err, postgres.ErrNoBatch)
}

func batchIDs(batches []photo.Batch) (ids []uuid.UUID) {
	for _, b := range batches {
		ids = append(ids, b.ID)
	}
	return ids
}

func TestPhotoPreviews(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ids := append([]uuid.UUID{b.photo}, b.addPhotos(t, 4)...)
	run := b.begin(t, ids[1])
	require.NoError(t, b.db.PublishThumbnails(t.Context(), run, aSource,
		[]photo.Thumbnail{thumbnail(96, 64, "small"), thumbnail(200, 300, "near"), thumbnail(1200, 800, "large")}, aPlaceholder))
	require.NoError(t, finish(t, b.db, run, nil))
	b.process(t, ids[2], aFailure)
	b.begin(t, ids[3])

	list := func(s photo.Selection, before postgres.Cursor, limit int) []uuid.UUID {
		page, err := b.db.PhotoPreviews(t.Context(), s, before, limit)
		require.NoError(t, err)
		got := []uuid.UUID{}
		for _, p := range page {
			got = append(got, p.UUID)
		}
		return got
	}
	require.Equal(t, []uuid.UUID{ids[4], ids[3], ids[2]}, list(photo.Selection{}, postgres.Cursor{}, 3))
	after := postgres.Cursor{CreatedAt: b.createdAt(t, ids[2]), UUID: ids[2]}
	require.Equal(t, []uuid.UUID{ids[1], ids[0]}, list(photo.Selection{}, after, 3))
	require.Equal(t, []uuid.UUID{ids[4], ids[0]}, list(photo.Selection{Status: photo.Pending}, postgres.Cursor{}, 3))
	require.Equal(t, []uuid.UUID{ids[2]}, list(photo.Selection{Code: photo.SourceForbidden}, postgres.Cursor{}, 3))
	require.Empty(t, list(photo.Selection{Code: photo.Internal}, postgres.Cursor{}, 3))

	previews, err := b.db.PreviewsByUUID(t.Context(), ids[1:3])
	require.NoError(t, err)
	require.Len(t, previews, 2)
	for _, p := range previews {
		if p.UUID == ids[1] {
			require.Equal(t, []photo.Thumbnail{thumbnail(200, 300, "near")}, p.Thumbnails)
		} else {
			require.Equal(t, photo.SourceForbidden, p.Failure.Code)
		}
	}
	counts, err := b.db.CountPhotos(t.Context())
	require.NoError(t, err)
	require.Equal(t, photo.Counts{Pending: 2, Processing: 1, Completed: 1, Failed: 1, Failures: map[photo.Code]int{photo.SourceForbidden: 1}}, counts)
}

func TestChanges(t *testing.T) {
	t.Parallel()
	b := setup(t)
	since, err := b.db.Now(t.Context())
	require.NoError(t, err)
	ids := b.addPhotos(t, 3)
	b.process(t, b.photo, nil)
	changes, err := b.db.Changes(t.Context(), since, 10)
	require.NoError(t, err)
	require.Len(t, changes, 4)
	require.Equal(t, b.photo, changes[3].Photo)
	changes, err = b.db.Changes(t.Context(), changes[2].At, 10)
	require.NoError(t, err)
	require.Len(t, changes, 1)
	require.NotContains(t, ids, changes[0].Photo)
}
