package postgres_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/photo-processor/photo-processor/internal/photo"
)

func TestPublishThumbnailsAfterFinishChangesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, mark(t, b.db, b.older))
	require.NoError(t, finish(t, b.db, b.older, aFailure))
	require.ErrorIs(t, b.db.PublishThumbnails(t.Context(), b.older, aSource, []photo.Thumbnail{thumbnail(1, 1, "late")}, aPlaceholder), photo.ErrSuperseded)
	require.Empty(t, b.get(t).Thumbnails)
}

func TestPublishThumbnailsReplacesStaleRows(t *testing.T) {
	t.Parallel()
	b := setup(t)
	publish := func(run photo.Run, thumbnails ...photo.Thumbnail) []photo.Thumbnail {
		t.Helper()
		require.NoError(t, mark(t, b.db, run))
		require.NoError(t, b.db.PublishThumbnails(t.Context(), run, aSource, thumbnails, aPlaceholder))
		require.NoError(t, finish(t, b.db, run, nil))
		return b.get(t).Thumbnails
	}
	first := publish(b.older, thumbnail(100, 67, "small"), thumbnail(320, 213, "large"))
	second := publish(b.newer, thumbnail(320, 213, "large"), thumbnail(640, 427, "huge"))
	require.Len(t, second, 2)
	require.Equal(t, first[1], second[0], "a row that is right stays as it is")
	require.Equal(t, "huge", second[1].Key)

	newest := b.newer
	newest.ID, newest.StartedAt = "newest", newest.StartedAt.Add(time.Second)
	third := publish(newest, thumbnail(320, 213, "large, but of other content"))
	require.Len(t, third, 1)
	require.Equal(t, "large, but of other content", third[0].Key)
}

func TestPublishThumbnailsConcurrently(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, mark(t, b.db, b.older))
	var group errgroup.Group
	for range 8 {
		group.Go(func() error {
			return b.db.PublishThumbnails(t.Context(), b.older, aSource, []photo.Thumbnail{thumbnail(320, 213, "a"), thumbnail(100, 67, "b")}, aPlaceholder)
		})
	}
	require.NoError(t, group.Wait())
	require.Len(t, b.get(t).Thumbnails, 2)

	status, keys, err := b.db.ThumbnailKeys(t.Context(), b.photo)
	require.NoError(t, err)
	require.Equal(t, photo.Processing, status)
	require.ElementsMatch(t, []string{"a", "b"}, keys)
}
