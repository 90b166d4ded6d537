package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
)

func TestPhotosListsAllPages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var urls []string
	for i := range 25 {
		urls = append(urls, fmt.Sprintf("https://photos.example/%d.jpg", i))
	}
	_, err := b.db.AddPhotos(t.Context(), urls)
	require.NoError(t, err)
	// All but the first have the same created_at: only the UUID orders them.
	_, err = b.db.ExecForTest(t.Context(), `UPDATE photos SET created_at = now() WHERE uuid <> $1`, b.photo)
	require.NoError(t, err)

	seen := map[uuid.UUID]bool{}
	var after postgres.Cursor
	for pages := 0; ; pages++ {
		page, err := b.db.Photos(t.Context(), photo.Pending, after, 10)
		require.NoError(t, err)
		if len(page) == 0 {
			require.Equal(t, 3, pages)
			break
		}
		for i, p := range page {
			require.False(t, seen[p.UUID], "seen before")
			seen[p.UUID] = true
			require.False(t, i > 0 && p.CreatedAt.Before(page[i-1].CreatedAt), "oldest first")
		}
		last := page[len(page)-1]
		after = postgres.Cursor{CreatedAt: last.CreatedAt, UUID: last.UUID}
	}
	require.Len(t, seen, 26)
	empty, err := b.db.Photos(t.Context(), photo.Failed, postgres.Cursor{}, 10)
	require.NoError(t, err)
	require.Empty(t, empty)
}

func TestAddPhotosKeepsTheOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	urls := []string{"https://photos.example/z.jpg", "https://photos.example/a.jpg", "https://photos.example/a.jpg"}
	added, err := b.db.AddPhotos(t.Context(), urls)
	require.NoError(t, err)
	for i, p := range added {
		require.Equal(t, urls[i], p.URL)
		require.Equal(t, photo.Pending, p.Status)
	}
	_, err = b.db.AddPhotos(t.Context(), []string{"https://photos.example/b.jpg", ""})
	require.ErrorContains(t, err, "photos__url_check")
	all, err := b.db.Photos(t.Context(), photo.Pending, postgres.Cursor{}, 100)
	require.NoError(t, err)
	require.Len(t, all, 4, "all or none")
	for i, p := range added {
		require.Equal(t, p.UUID, all[1+i].UUID, "the list has the same order")
	}
}

// TestDeletePhotoWaitsForThumbnails deletes a photo while a transaction has
// published a thumbnail of it and is not committed.
func TestDeletePhotoWaitsForThumbnails(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, mark(t, b.db, b.older))
	conn, err := pgx.Connect(t.Context(), b.url)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `UPDATE photos SET updated_at = now() WHERE uuid = $1`, b.photo)
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `INSERT INTO photo_thumbnails (photo_uuid, width, height, url) VALUES ($1, 1, 1, 'x')`, b.photo)
	require.NoError(t, err)
	deleted := make(chan error, 1)
	go func() { deleted <- b.db.DeletePhoto(t.Context(), b.photo) }()
	require.Eventually(t, func() bool {
		var waiting int
		require.NoError(t, b.db.QueryRowForTest(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting))
		return waiting == 1
	}, time.Minute, 10*time.Millisecond)
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, <-deleted)
	_, err = b.db.Photo(t.Context(), b.photo)
	require.ErrorIs(t, err, photo.ErrNotFound)
	require.ErrorIs(t, b.db.PublishThumbnails(t.Context(), b.older, aSource, []photo.Thumbnail{thumbnail(1, 1, "y")}, aPlaceholder), photo.ErrSuperseded)
	require.NoError(t, b.db.DeletePhoto(t.Context(), b.photo), "again")
}
