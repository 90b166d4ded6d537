package postgres_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/postgres"
)

func TestListThumbnailRows(t *testing.T) {
	t.Parallel()
	b := setup(t)
	added, err := b.db.AddPhotos(t.Context(), slices.Repeat([]string{"https://photos.example/1.jpg"}, 20))
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), b.url)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	var want []postgres.ThumbnailRow
	for i, p := range added {
		// A locale's order would be another one: it ignores case and hyphens.
		for j, name := range []string{"B", "a-b", "a/b", "a.b", "ab", "A", "é"} {
			row := postgres.ThumbnailRow{Photo: p.UUID, Key: fmt.Sprintf("%s/%s", p.UUID, name)}
			_, err := conn.Exec(t.Context(), `INSERT INTO photo_thumbnails (photo_uuid, url, width, height) VALUES ($1, $2, $3, $4)`,
				row.Photo, row.Key, i+1, j+1)
			require.NoError(t, err)
			want = append(want, row)
		}
	}
	slices.SortFunc(want, func(a, b postgres.ThumbnailRow) int { return strings.Compare(a.Key, b.Key) })
	require.True(t, slices.IsSortedFunc(want, func(a, b postgres.ThumbnailRow) int { return bytes.Compare(a.Photo[:], b.Photo[:]) }))

	for _, limit := range []int{1, 3, 7, len(want), len(want) + 1} {
		var all []postgres.ThumbnailRow
		for after := (postgres.ThumbnailRow{}); ; after = all[len(all)-1] {
			page, err := b.db.ListThumbnailRows(t.Context(), after, limit)
			require.NoError(t, err)
			require.LessOrEqual(t, len(page), limit)
			all = append(all, page...)
			if len(page) < limit {
				break
			}
		}
		require.Equal(t, want, all, "pages of %d rows", limit)
	}
}
