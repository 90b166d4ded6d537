package postgres_test

import (
	"fmt"
	"testing"

	"github.com/google/uuid"
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
