package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// PublishThumbnails makes the photo's thumbnails exactly those given, and
// records their source and the placeholder, in one transaction and one round
// trip. It keeps rows that are equal, and deletes the others. It is idempotent,
// and returns photo.ErrSuperseded unless the run owns the photo.
func (db *DB) PublishThumbnails(ctx context.Context, run photo.Run, source photo.SourceInfo, thumbnails []photo.Thumbnail, placeholder []byte) error {
	var widths, heights []int16
	var keys []string
	for _, t := range thumbnails {
		widths = append(widths, int16(t.Size.Width))
		heights = append(heights, int16(t.Size.Height))
		keys = append(keys, t.Key)
	}
	tag, err := retryStale(func() (pgconn.CommandTag, error) {
		// A batch is one implicit transaction. Its first statement locks the
		// photo's row, so that the fence has the same result in all three. Each
		// attempt needs a new batch, because pgx keeps the names of the
		// session's prepared statements in it.
		batch := &pgx.Batch{}
		batch.Queue(`UPDATE photos SET source_media_type = $4, source_bytes = $5, source_sha256 = $6, placeholder = $7, updated_at = now() WHERE `+owned,
			append(fenceArgs(run), source.MediaType, source.Bytes, source.SHA256, placeholder)...)
		batch.Queue(`DELETE FROM photo_thumbnails
		WHERE photo_uuid = $1 AND NOT (url, width, height) IN (SELECT * FROM unnest($4::text[], $5::smallint[], $6::smallint[]))
		AND EXISTS (SELECT FROM photos WHERE `+owned+`)`,
			append(fenceArgs(run), keys, widths, heights)...)
		batch.Queue(`INSERT INTO photo_thumbnails (photo_uuid, url, width, height)
		SELECT $1, t.* FROM unnest($4::text[], $5::smallint[], $6::smallint[]) AS t
		WHERE EXISTS (SELECT FROM photos WHERE `+owned+`)
		ON CONFLICT ON CONSTRAINT photo_thumbnails__photo_uuid__width__height_uniq DO NOTHING`,
			append(fenceArgs(run), keys, widths, heights)...)

		results := db.pool.SendBatch(ctx, batch)
		tag, err := results.Exec()
		if closeErr := results.Close(); err == nil {
			err = closeErr
		}
		return tag, err
	})
	if err != nil {
		return fmt.Errorf("publish thumbnails: %w", translate(err))
	}
	if tag.RowsAffected() == 0 {
		return photo.ErrSuperseded
	}
	return nil
}

// ThumbnailKeys returns the photo's status and the keys of its thumbnails in
// the thumbnails bucket, as they are at one moment. Its errors include
// photo.ErrNotFound.
func (db *DB) ThumbnailKeys(ctx context.Context, id uuid.UUID) (status photo.Status, keys []string, err error) {
	err = db.pool.QueryRow(ctx, `SELECT status, ARRAY(SELECT url FROM photo_thumbnails WHERE photo_uuid = $1)
		FROM photos WHERE uuid = $1`, id).Scan(&status, &keys)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil, photo.ErrNotFound
	}
	if err != nil {
		return "", nil, fmt.Errorf("read photo's thumbnails: %w", translate(err))
	}
	return status, keys, nil
}

// thumbnails lists the photo's thumbnails by width, then height.
func (db *DB) thumbnails(ctx context.Context, id uuid.UUID) ([]photo.Thumbnail, error) {
	rows, err := db.pool.Query(ctx, `SELECT uuid, width, height, url, created_at FROM photo_thumbnails
		WHERE photo_uuid = $1 ORDER BY width, height`, id)
	if err != nil {
		return nil, translate(err)
	}
	thumbnails, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t photo.Thumbnail, err error) {
		err = row.Scan(&t.UUID, &t.Size.Width, &t.Size.Height, &t.Key, &t.CreatedAt)
		return t, err
	})
	return thumbnails, translate(err)
}
