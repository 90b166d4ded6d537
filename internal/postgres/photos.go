package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/photo-processor/photo-processor/internal/photo"
)

const photoColumns = `uuid, url, status, created_at, updated_at, coalesce(run_id, ''), failure_code, failure_message`

func scanPhoto(row pgx.CollectableRow) (p photo.Photo, err error) {
	var code, message *string
	err = row.Scan(&p.UUID, &p.URL, &p.Status, &p.CreatedAt, &p.UpdatedAt, &p.RunID, &code, &message)
	if code != nil && message != nil {
		p.Failure = &photo.Failure{Code: photo.Code(*code), Message: *message}
	}
	return p, err
}

// Photo gives one photo with its thumbnails, or photo.ErrNotFound.
func (db *DB) Photo(ctx context.Context, id uuid.UUID) (photo.Photo, error) {
	return reread(db, func() (photo.Photo, error) { return db.photo(ctx, id) })
}

func (db *DB) photo(ctx context.Context, id uuid.UUID) (photo.Photo, error) {
	rows, err := db.pool.Query(ctx, `SELECT `+photoColumns+` FROM photos WHERE uuid = $1`, id)
	if err != nil {
		return photo.Photo{}, fmt.Errorf("read photo: %w", translate(err))
	}
	p, err := pgx.CollectExactlyOneRow(rows, scanPhoto)
	if errors.Is(err, pgx.ErrNoRows) {
		return photo.Photo{}, photo.ErrNotFound
	}
	if err != nil {
		return photo.Photo{}, fmt.Errorf("read photo: %w", translate(err))
	}
	if p.Thumbnails, err = db.thumbnails(ctx, id); err != nil {
		return photo.Photo{}, fmt.Errorf("read photo's thumbnails: %w", err)
	}
	return p, nil
}

// Cursor is a place in the list of photos with one status: just after the
// photo that was created then, with that UUID. The zero Cursor is the start.
type Cursor struct {
	CreatedAt time.Time
	UUID      uuid.UUID
}

// Photos gives up to limit photos that have the status, oldest first, from the
// cursor on, without their thumbnails.
func (db *DB) Photos(ctx context.Context, status photo.Status, after Cursor, limit int) ([]photo.Photo, error) {
	return reread(db, func() ([]photo.Photo, error) { return db.photos(ctx, status, after, limit) })
}

func (db *DB) photos(ctx context.Context, status photo.Status, after Cursor, limit int) ([]photo.Photo, error) {
	rows, err := db.pool.Query(ctx, `SELECT `+photoColumns+` FROM photos
		WHERE status = $1 AND (created_at, uuid) > ($2, $3) ORDER BY created_at, uuid LIMIT $4`,
		status, after.CreatedAt, after.UUID, limit)
	if err != nil {
		return nil, fmt.Errorf("list photos: %w", translate(err))
	}
	photos, err := pgx.CollectRows(rows, scanPhoto)
	if err != nil {
		return nil, fmt.Errorf("list photos: %w", translate(err))
	}
	return photos, nil
}

// AddPhotos inserts a pending photo for each URL, all or none, and gives them
// in the order of the URLs.
func (db *DB) AddPhotos(ctx context.Context, urls []string) ([]photo.Photo, error) {
	// RETURNING promises no order, so that rows are matched to URLs by the UUIDs
	// that are made here. The microseconds keep the order in lists, too.
	ids := make([]uuid.UUID, len(urls))
	place := make(map[uuid.UUID]int, len(urls))
	for i := range ids {
		ids[i] = uuid.New()
		place[ids[i]] = i
	}
	rows, err := db.pool.Query(ctx, `INSERT INTO photos (uuid, url, created_at)
		SELECT id, url, now() + n * interval '1 microsecond' FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS t (id, url, n)
		RETURNING `+photoColumns, ids, urls)
	if err != nil {
		return nil, fmt.Errorf("add photos: %w", translate(err))
	}
	added, err := pgx.CollectRows(rows, scanPhoto)
	if err != nil {
		return nil, fmt.Errorf("add photos: %w", translate(err))
	}
	photos := make([]photo.Photo, len(urls))
	for _, p := range added {
		photos[place[p.UUID]] = p
	}
	return photos, nil
}
