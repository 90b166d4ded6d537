package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/photo-processor/photo-processor/internal/photo"
)

const photoColumns = `uuid, url, status, created_at, updated_at, coalesce(run_id, ''), placeholder, failure_code, failure_message`

func scanPhoto(row pgx.CollectableRow) (p photo.Photo, err error) {
	var code, message *string
	err = row.Scan(&p.UUID, &p.URL, &p.Status, &p.CreatedAt, &p.UpdatedAt, &p.RunID, &p.Placeholder, &code, &message)
	if code != nil && message != nil {
		p.Failure = &photo.Failure{Code: photo.Code(*code), Message: *message}
	}
	return p, err
}

// Photo returns one photo with its thumbnails, or photo.ErrNotFound.
func (db *DB) Photo(ctx context.Context, id uuid.UUID) (photo.Photo, error) {
	return retryRead(db, func() (photo.Photo, error) { return db.photo(ctx, id) })
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

// Cursor is a position in a list of photos, which is ordered by CreatedAt and
// UUID: after the photo with these values. The zero Cursor is the start.
type Cursor struct {
	CreatedAt time.Time
	UUID      uuid.UUID
}

// descending returns the arguments of the condition (created_at, uuid) < (…) of
// a list that is ordered by both descending.
func (c Cursor) descending() (any, uuid.UUID) {
	if c.CreatedAt.IsZero() {
		return pgtype.Timestamptz{InfinityModifier: pgtype.Infinity, Valid: true}, uuid.Max
	}
	return c.CreatedAt, c.UUID
}

// Photos lists up to limit photos after the cursor that have the status, the
// oldest first, without their thumbnails.
func (db *DB) Photos(ctx context.Context, status photo.Status, after Cursor, limit int) ([]photo.Photo, error) {
	return retryRead(db, func() ([]photo.Photo, error) { return db.photos(ctx, status, after, limit) })
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

// PhotosByUUID reads the photos with the UUIDs that exist, in no order, without
// their thumbnails and URLs.
func (db *DB) PhotosByUUID(ctx context.Context, ids []uuid.UUID) ([]photo.Photo, error) {
	photos, err := retryRead(db, func() ([]photo.Photo, error) {
		rows, err := db.pool.Query(ctx, `SELECT `+strings.Replace(photoColumns, "url", "''", 1)+` FROM photos WHERE uuid = ANY ($1::uuid[])`, toTexts(ids))
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, scanPhoto)
	})
	if err != nil {
		return nil, fmt.Errorf("read photos: %w", translate(err))
	}
	return photos, nil
}

// DeletePhoto deletes a photo and the rows of its thumbnails in one transaction.
// A run that is publishing thumbnails either commits before, or finds that it
// does not own the photo. It is idempotent.
func (db *DB) DeletePhoto(ctx context.Context, id uuid.UUID) error {
	_, err := retryStale(func() (any, error) {
		batch := &pgx.Batch{}
		// The lock is the same as that of PublishThumbnails.
		batch.Queue(`SELECT FROM photos WHERE uuid = $1 FOR UPDATE`, id)
		batch.Queue(`DELETE FROM photo_thumbnails WHERE photo_uuid = $1`, id)
		batch.Queue(`DELETE FROM photos WHERE uuid = $1`, id)
		return nil, db.pool.SendBatch(ctx, batch).Close()
	})
	if err != nil {
		return fmt.Errorf("delete photo: %w", translate(err))
	}
	return nil
}

// AddPhotos inserts a pending photo for each URL, all or none, and returns the
// photos in the order of the URLs.
func (db *DB) AddPhotos(ctx context.Context, urls []string) ([]photo.Photo, error) {
	// RETURNING guarantees no order, so the UUIDs are made here to match rows
	// to URLs. Adding microseconds to created_at keeps the order in lists, too.
	ids := make([]string, len(urls)) // some modes of pgx cannot send a []uuid.UUID
	index := make(map[uuid.UUID]int, len(urls))
	for i := range ids {
		id := uuid.New()
		ids[i] = id.String()
		index[id] = i
	}
	added, err := retryStale(func() ([]photo.Photo, error) {
		rows, err := db.pool.Query(ctx, `INSERT INTO photos (uuid, url, created_at)
			SELECT id, url, now() + n * interval '1 microsecond' FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS t (id, url, n)
			RETURNING `+photoColumns, ids, urls)
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, scanPhoto)
	})
	if err != nil {
		return nil, fmt.Errorf("add photos: %w", translate(err))
	}
	photos := make([]photo.Photo, len(urls))
	for _, p := range added {
		photos[index[p.UUID]] = p
	}
	return photos, nil
}
