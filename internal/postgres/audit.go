package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// ThumbnailRow is the photo and the key of a thumbnail's row. It is also a
// cursor in the list of rows, which is ordered by both: after this row. The
// zero value is the start.
type ThumbnailRow struct {
	Photo uuid.UUID
	Key   string // in the thumbnails bucket
}

// ListThumbnailRows lists up to limit rows after the cursor, of all photos.
// They are ordered by photo, then by key, byte by byte. This is the order of
// their keys, too, because a key begins with the UUID of its photo. To order by
// the key alone, PostgreSQL would sort the whole table for each page, because
// no index has the keys.
func (db *DB) ListThumbnailRows(ctx context.Context, after ThumbnailRow, limit int) ([]ThumbnailRow, error) {
	list, err := retryRead(db, func() ([]ThumbnailRow, error) {
		// The first condition lets the index of the photos find the page.
		rows, err := db.pool.Query(ctx, `SELECT photo_uuid, url FROM photo_thumbnails
			WHERE photo_uuid >= $1 AND (photo_uuid > $1 OR url COLLATE "C" > $2)
			ORDER BY photo_uuid, url COLLATE "C" LIMIT $3`, after.Photo, after.Key, limit)
		if err != nil {
			return nil, translate(err)
		}
		list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[ThumbnailRow])
		return list, translate(err)
	})
	if err != nil {
		return nil, fmt.Errorf("list thumbnails: %w", err)
	}
	return list, nil
}
