package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// ProcessingPhoto is a photo whose status is processing, with the run that owns
// it. The run has no ID if the photo has been processing since before
// migrations existed.
type ProcessingPhoto struct {
	Run       photo.Run
	CreatedAt time.Time
}

// ListProcessing lists up to limit photos after the cursor whose status is
// processing, the oldest first.
func (db *DB) ListProcessing(ctx context.Context, after Cursor, limit int) ([]ProcessingPhoto, error) {
	rows, err := db.pool.Query(ctx, `SELECT uuid, coalesce(run_id, ''), coalesce(run_started_at, 'epoch'), created_at FROM photos
		WHERE status = 'processing' AND (created_at, uuid) > ($1, $2) ORDER BY created_at, uuid LIMIT $3`,
		after.CreatedAt, after.UUID, limit)
	if err != nil {
		return nil, fmt.Errorf("list processing photos: %w", translate(err))
	}
	photos, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p ProcessingPhoto, err error) {
		err = row.Scan(&p.Run.Photo, &p.Run.ID, &p.Run.StartedAt, &p.CreatedAt)
		return p, err
	})
	if err != nil {
		return nil, fmt.Errorf("list processing photos: %w", translate(err))
	}
	return photos, nil
}

// IsProcessing reports whether the photo's status is processing and the run
// owns it, whichever its start.
func (db *DB) IsProcessing(ctx context.Context, run photo.Run) (processing bool, err error) {
	err = db.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM photos WHERE uuid = $1 AND coalesce(run_id, '') = $2 AND status = 'processing')`,
		run.Photo, run.ID).Scan(&processing)
	return processing, translate(err)
}
