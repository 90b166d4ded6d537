package postgres

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// LockedPhoto is a photo whose row is locked.
type LockedPhoto struct {
	Status photo.Status
	Keys   []string // of its thumbnails in the thumbnails bucket
}

// WithPhotoLocked calls do while it holds a lock on the photo's row, which
// blocks every write of a run. Files may be deleted under the lock, because no
// run can refer to them meanwhile. Its errors are photo.ErrNotFound and those
// of do.
func (db *DB) WithPhotoLocked(ctx context.Context, id uuid.UUID, do func(LockedPhoto) error) error {
	var doErr error
	err := pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		var locked LockedPhoto
		if err := tx.QueryRow(ctx, `SELECT status FROM photos WHERE uuid = $1 FOR UPDATE`, id).Scan(&locked.Status); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT url FROM photo_thumbnails WHERE photo_uuid = $1`, id)
		if err != nil {
			return err
		}
		if locked.Keys, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			return err
		}
		doErr = do(locked)
		return doErr
	})
	if doErr != nil {
		return doErr // not PostgreSQL's, such as an error of the bucket
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return photo.ErrNotFound
	}
	return translate(err)
}
