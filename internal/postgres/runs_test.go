package postgres_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

func TestARunFromMarkToFinish(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Equal(t, photo.Pending, b.get(t).Status)

	for range 2 { // each step is idempotent
		require.NoError(t, mark(t, b.db, b.older))
	}
	p := b.get(t)
	require.Equal(t, photo.Processing, p.Status)
	require.Equal(t, "older", p.RunID)

	url, err := b.db.SourceURL(t.Context(), b.older)
	require.NoError(t, err)
	require.Equal(t, "https://photos.example/1.jpg", url)

	for range 2 {
		require.NoError(t, b.db.PublishThumbnails(t.Context(), b.older, aSource, []photo.Thumbnail{thumbnail(320, 213, "a"), thumbnail(100, 67, "b")}, aPlaceholder))
	}
	for _, want := range []bool{true, false} {
		_, first, err := b.db.Finish(t.Context(), b.older, nil)
		require.NoError(t, err)
		require.Equal(t, want, first)
	}
	p = b.get(t)
	require.Equal(t, photo.Completed, p.Status)
	require.Nil(t, p.Failure)
	require.Len(t, p.Thumbnails, 2)
	require.Equal(t, "b", p.Thumbnails[0].Key, "by width")
	require.Equal(t, photo.Size{Width: 320, Height: 213}, p.Thumbnails[1].Size)
}

func TestFailureIsKeptUntilTheNextRun(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, mark(t, b.db, b.older))
	require.NoError(t, finish(t, b.db, b.older, aFailure))
	p := b.get(t)
	require.Equal(t, photo.Failed, p.Status)
	require.Equal(t, aFailure, p.Failure)

	require.NoError(t, finish(t, b.db, b.older, nil), "finishing again")
	require.Equal(t, photo.Failed, b.get(t).Status, "changes nothing")

	require.NoError(t, mark(t, b.db, b.newer))
	p = b.get(t)
	require.Equal(t, photo.Processing, p.Status)
	require.Nil(t, p.Failure)
}

func TestARunThatNeverMarkedCanFinish(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, finish(t, b.db, b.older, photo.Fail(photo.Canceled, "processing was canceled")))
	p := b.get(t)
	require.Equal(t, photo.Failed, p.Status)
	require.Equal(t, photo.Canceled, p.Failure.Code)
	require.NoError(t, mark(t, b.db, b.older), "its late mark")
	require.Equal(t, photo.Failed, b.get(t).Status, "changes nothing")
}

// TestARunThatStartsAgain starts a run twice, as after a lost workflow task,
// and then resumes the worker of the first start.
func TestARunThatStartsAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	again := b.older
	again.StartedAt = again.StartedAt.Add(time.Millisecond)
	for _, run := range []photo.Run{b.older, b.older, again, again} {
		require.NoError(t, mark(t, b.db, run))
	}
	require.NoError(t, mark(t, b.db, b.older), "its late mark")
	_, err := b.db.SourceURL(t.Context(), again)
	require.NoError(t, err, "changes nothing")
	require.ErrorIs(t, b.db.PublishThumbnails(t.Context(), b.older, aSource, []photo.Thumbnail{thumbnail(1, 1, "late")}, aPlaceholder), photo.ErrSuperseded)
	_, first, err := b.db.Finish(t.Context(), b.older, aFailure)
	require.NoError(t, err)
	require.False(t, first)
	require.Equal(t, photo.Processing, b.get(t).Status)

	require.NoError(t, finish(t, b.db, again, nil))
	again.StartedAt = again.StartedAt.Add(time.Millisecond)
	require.NoError(t, finish(t, b.db, again, aFailure), "cancelled after its end")
	require.Equal(t, photo.Completed, b.get(t).Status)
	require.NoError(t, mark(t, b.db, again))
	require.Equal(t, photo.Processing, b.get(t).Status, "the task was lost after its last step: it is done again")
}

func TestAnOlderRunChangesNothing(t *testing.T) {
	t.Parallel()
	for _, newerIs := range []string{"processing", "finished"} {
		t.Run(newerIs, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			require.NoError(t, mark(t, b.db, b.older))
			require.NoError(t, mark(t, b.db, b.newer))
			require.NoError(t, b.db.PublishThumbnails(t.Context(), b.newer, aSource, []photo.Thumbnail{thumbnail(320, 213, "newer")}, aPlaceholder))
			if newerIs == "finished" {
				require.NoError(t, finish(t, b.db, b.newer, nil))
			}
			before := b.get(t)

			require.ErrorIs(t, mark(t, b.db, b.older), photo.ErrSuperseded)
			_, err := b.db.SourceURL(t.Context(), b.older)
			require.ErrorIs(t, err, photo.ErrSuperseded)
			require.ErrorIs(t, b.db.PublishThumbnails(t.Context(), b.older, aSource, []photo.Thumbnail{thumbnail(1, 1, "older")}, aPlaceholder), photo.ErrSuperseded)
			require.ErrorIs(t, finish(t, b.db, b.older, aFailure), photo.ErrSuperseded)

			require.Equal(t, before, b.get(t))
		})
	}
}

func TestAPhotoThatDoesNotExist(t *testing.T) {
	t.Parallel()
	b := setup(t)
	missing := photo.Run{Photo: uuid.New(), ID: "run", StartedAt: time.Now()}
	require.ErrorIs(t, mark(t, b.db, missing), photo.ErrNotFound)
	require.ErrorIs(t, finish(t, b.db, missing, nil), photo.ErrNotFound)
	_, err := b.db.Photo(t.Context(), missing.Photo)
	require.ErrorIs(t, err, photo.ErrNotFound)
	_, _, err = b.db.ThumbnailKeys(t.Context(), missing.Photo)
	require.ErrorIs(t, err, photo.ErrNotFound)
}

func TestMarkProcessingAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, step := range []struct {
		run   photo.Run
		again bool
	}{{b.older, false}, {b.older, true}, {b.newer, false}, {b.newer, true}} {
		again, err := b.db.MarkProcessing(t.Context(), step.run)
		require.NoError(t, err)
		require.Equal(t, step.again, again)
	}
	restarted := b.newer
	restarted.StartedAt = restarted.StartedAt.Add(time.Second)
	again, err := b.db.MarkProcessing(t.Context(), restarted)
	require.NoError(t, err)
	require.True(t, again)
}
