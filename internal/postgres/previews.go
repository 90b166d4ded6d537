package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// previewSize is the length in pixels, of a thumbnail's longer side, that suits
// a list of photos.
const previewSize = 320

// PhotoPreviews lists up to limit photos of the selection before the cursor, the
// newest first. A selection without a status has all photos. Each photo has at
// most one thumbnail: the one whose size is nearest to 320 pixels.
func (db *DB) PhotoPreviews(ctx context.Context, selection photo.Selection, before Cursor, limit int) ([]photo.Photo, error) {
	created, id := before.descending()
	args := []any{created, id, limit}
	const newest = `(SELECT * FROM photos WHERE %s AND (created_at, uuid) < ($1, $2) ORDER BY created_at DESC, uuid DESC LIMIT $3)`
	var selected string
	switch {
	case selection.Code != "":
		selected = fmt.Sprintf(newest, `failure_code = $4`)
		args = append(args, selection.Code)
	case selection.Status != "":
		selected = fmt.Sprintf(newest, `status = $4`)
		args = append(args, selection.Status)
	default: // each status has its part of the index
		var parts []string
		for _, status := range photo.Statuses {
			parts = append(parts, fmt.Sprintf(newest, `status = '`+string(status)+`'`))
		}
		selected = strings.Join(parts, ` UNION ALL `)
	}
	return db.previews(ctx, `(`+selected+`)`, `ORDER BY p.created_at DESC, p.uuid DESC LIMIT $3`, args...)
}

// PreviewsByUUID reads the previews of the photos that exist, in no order.
func (db *DB) PreviewsByUUID(ctx context.Context, ids []uuid.UUID) ([]photo.Photo, error) {
	return db.previews(ctx, `photos`, `WHERE p.uuid = ANY ($1::uuid[])`, toTexts(ids))
}

// previews reads photos of a table expression, each with one thumbnail.
func (db *DB) previews(ctx context.Context, from, suffix string, args ...any) ([]photo.Photo, error) {
	previews, err := retryRead(db, func() ([]photo.Photo, error) {
		rows, err := db.pool.Query(ctx, fmt.Sprintf(`SELECT p.uuid, p.url, p.status, p.created_at, p.updated_at, p.placeholder, coalesce(p.failure_code, ''),
			coalesce(t.url, ''), coalesce(t.width, 0), coalesce(t.height, 0)
			FROM %s AS p LEFT JOIN LATERAL (
				SELECT url, width, height FROM photo_thumbnails WHERE photo_uuid = p.uuid
				ORDER BY abs(greatest(width, height) - %d), width, height LIMIT 1) AS t ON true %s`, from, previewSize, suffix), args...)
		if err != nil {
			return nil, translate(err)
		}
		previews, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p photo.Photo, err error) {
			var code photo.Code
			var t photo.Thumbnail
			err = row.Scan(&p.UUID, &p.URL, &p.Status, &p.CreatedAt, &p.UpdatedAt, &p.Placeholder, &code, &t.Key, &t.Size.Width, &t.Size.Height)
			if code != "" {
				p.Failure = &photo.Failure{Code: code}
			}
			if t.Key != "" {
				p.Thumbnails = []photo.Thumbnail{t}
			}
			return p, err
		})
		return previews, translate(err)
	})
	if err != nil {
		return nil, fmt.Errorf("read photos: %w", err)
	}
	return previews, nil
}

// CountPhotos counts all photos. It reads the whole table: 10 ms for 100,000
// photos.
func (db *DB) CountPhotos(ctx context.Context) (photo.Counts, error) {
	counts, err := retryRead(db, func() (counts photo.Counts, err error) {
		rows, err := db.pool.Query(ctx, `SELECT status, coalesce(failure_code, ''), count(*) FROM photos GROUP BY 1, 2`)
		if err != nil {
			return counts, translate(err)
		}
		var status photo.Status
		var code photo.Code
		var n int
		_, err = pgx.ForEachRow(rows, []any{&status, &code, &n}, func() error {
			counts.Add(status, code, n)
			return nil
		})
		return counts, translate(err)
	})
	if err != nil {
		return photo.Counts{}, fmt.Errorf("count photos: %w", err)
	}
	return counts, nil
}

// Change is a photo that has changed, and when.
type Change struct {
	Photo uuid.UUID
	At    time.Time
}

// Changes lists up to limit photos that have changed since the time, the oldest
// change first. The time of a change is when its transaction began, so that a
// change may appear after a later one.
func (db *DB) Changes(ctx context.Context, since time.Time, limit int) ([]Change, error) {
	rows, err := db.pool.Query(ctx, `SELECT uuid, updated_at FROM photos WHERE updated_at > $1 ORDER BY updated_at, uuid LIMIT $2`, since, limit)
	if err != nil {
		return nil, fmt.Errorf("list changed photos: %w", translate(err))
	}
	changes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Change])
	if err != nil {
		return nil, fmt.Errorf("list changed photos: %w", translate(err))
	}
	return changes, nil
}

// Now returns the database's time.
func (db *DB) Now(ctx context.Context) (now time.Time, err error) {
	err = db.pool.QueryRow(ctx, `SELECT now()`).Scan(&now)
	return now, translate(err)
}
