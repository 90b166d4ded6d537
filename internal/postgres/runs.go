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

// canAcquire is true for a run that is newer than the photo's owner, or that is
// the owner and has not written its final status yet. Its parameters are those of
// fenceArgs: the photo, the run's id and the run's start. A run whose first workflow
// task was lost has started more than once; its latest start owns the photo.
const canAcquire = `uuid = $1 AND (run_started_at IS NULL OR run_started_at < $3 OR (run_id = $2 AND run_started_at = $3 AND status = 'processing'))`

// owned is true for a run between its MarkProcessing and its Finish.
const owned = `uuid = $1 AND run_id = $2 AND run_started_at = $3 AND status = 'processing'`

// fenceArgs returns the parameters $1, $2, $3 of canAcquire and owned. The start is
// cut to microseconds, which is what PostgreSQL stores, so that both compare equal.
func fenceArgs(run photo.Run) []any {
	return []any{run.Photo, run.ID, run.StartedAt.UTC().Truncate(time.Microsecond)}
}

// MarkProcessing makes the run the photo's owner and its status processing.
// Doing so again changes nothing, as long as no newer run has taken the photo.
func (db *DB) MarkProcessing(ctx context.Context, run photo.Run) error {
	tag, err := db.pool.Exec(ctx, `UPDATE photos SET status = 'processing', run_id = $2, run_started_at = $3,
		failure_code = NULL, failure_message = NULL, updated_at = now() WHERE `+canAcquire, fenceArgs(run)...)
	if err != nil {
		return fmt.Errorf("update photo: %w", translate(err))
	}
	if tag.RowsAffected() == 0 {
		return db.explainNotAcquired(ctx, run)
	}
	return nil
}

// Finish ends the run: the photo is completed, or failed for the reason given. It
// takes the owner, or a newer run that never marked the photo, as one that was
// cancelled at once. Finishing again changes nothing, not even after a later start of
// the run; first is true the one time that the status was written.
func (db *DB) Finish(ctx context.Context, run photo.Run, failure *photo.Failure) (first bool, err error) {
	status, code, message := photo.Completed, (*string)(nil), (*string)(nil)
	if failure != nil {
		status, code, message = photo.Failed, (*string)(&failure.Code), &failure.Message
	}
	tag, err := db.pool.Exec(ctx, `UPDATE photos SET status = $4, run_id = $2, run_started_at = $3,
		failure_code = $5, failure_message = $6, updated_at = now()
		WHERE `+canAcquire+` AND (run_id IS DISTINCT FROM $2 OR status = 'processing')`, append(fenceArgs(run), status, code, message)...)
	if err != nil {
		return false, fmt.Errorf("update photo: %w", translate(err))
	}
	if tag.RowsAffected() == 0 {
		return false, db.explainNotAcquired(ctx, run)
	}
	return true, nil
}

// explainNotAcquired says why canAcquire is true of no row: nil if the run has finished.
func (db *DB) explainNotAcquired(ctx context.Context, run photo.Run) error {
	var owner *string
	err := db.pool.QueryRow(ctx, `SELECT run_id FROM photos WHERE uuid = $1`, run.Photo).Scan(&owner)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return photo.ErrNotFound
	case err != nil:
		return fmt.Errorf("read photo's run: %w", translate(err))
	case owner != nil && *owner == run.ID:
		return nil // its final status stands
	default:
		return photo.ErrSuperseded
	}
}

// SourceURL gives the photo's URL to the run that owns the photo.
func (db *DB) SourceURL(ctx context.Context, run photo.Run) (string, error) {
	var url string
	err := db.pool.QueryRow(ctx, `SELECT url FROM photos WHERE `+owned, fenceArgs(run)...).Scan(&url)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", photo.ErrSuperseded
	}
	if err != nil {
		return "", fmt.Errorf("read photo's url: %w", translate(err))
	}
	return url, nil
}

// ProcessingPhoto is a photo that is processing, and the run that owns it: one
// without an ID if the photo was processing in an adopted database.
type ProcessingPhoto struct {
	Run       photo.Run
	CreatedAt time.Time
}

// Processing gives up to limit photos that are processing, oldest first, from
// the cursor on.
func (db *DB) Processing(ctx context.Context, after Cursor, limit int) ([]ProcessingPhoto, error) {
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

// StillProcessing tells whether the photo is processing, and owned by the run.
func (db *DB) StillProcessing(ctx context.Context, run photo.Run) (still bool, err error) {
	err = db.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM photos WHERE uuid = $1 AND coalesce(run_id, '') = $2 AND status = 'processing')`,
		run.Photo, run.ID).Scan(&still)
	return still, translate(err)
}

// Locked is what WithPhotoLocked knows of the photo that it holds.
type Locked struct {
	Status photo.Status
	Keys   []string // of its thumbnails, in the thumbnails bucket
}

// WithPhotoLocked calls do while it keeps every run from taking, changing or
// finishing the photo. It is what makes it safe to delete files: none can be
// about to be recorded.
func (db *DB) WithPhotoLocked(ctx context.Context, id uuid.UUID, do func(Locked) error) error {
	err := pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		var held Locked
		if err := tx.QueryRow(ctx, `SELECT status FROM photos WHERE uuid = $1 FOR UPDATE`, id).Scan(&held.Status); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT url FROM photo_thumbnails WHERE photo_uuid = $1`, id)
		if err != nil {
			return err
		}
		if held.Keys, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			return err
		}
		return do(held)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return photo.ErrNotFound
	}
	return translate(err)
}
