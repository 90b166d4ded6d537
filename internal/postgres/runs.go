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

// mayTake is true for a run that is newer than the photo's owner, or that is
// the owner and has not written its final status yet. Its parameters are the
// photo, the run's id and the run's start: what fence gives. One run has
// several starts when its first workflow task was lost, and the last of them counts.
const mayTake = `uuid = $1 AND (run_started_at IS NULL OR run_started_at < $3 OR (run_id = $2 AND run_started_at = $3 AND status = 'processing'))`

// owns is true for a run between its MarkProcessing and its Finish.
const owns = `uuid = $1 AND run_id = $2 AND run_started_at = $3 AND status = 'processing'`

// fence gives the parameters $1, $2, $3 of mayTake and owns. PostgreSQL keeps
// microseconds; to compare equal, so must we.
func fence(run photo.Run) []any {
	return []any{run.Photo, run.ID, run.StartedAt.UTC().Truncate(time.Microsecond)}
}

// MarkProcessing makes the run the photo's owner and its status processing.
// Doing so again changes nothing, as long as no newer run has taken over. Before
// tells whether the same run has done so with an earlier start.
func (db *DB) MarkProcessing(ctx context.Context, run photo.Run) (before bool, err error) {
	err = db.pool.QueryRow(ctx, `UPDATE photos SET status = 'processing', run_id = $2, run_started_at = $3,
			failure_code = NULL, failure_message = NULL, updated_at = now()
		FROM (SELECT uuid, run_id, run_started_at FROM photos WHERE `+mayTake+` FOR UPDATE) before
		WHERE photos.uuid = before.uuid
		RETURNING coalesce(before.run_id = $2 AND before.run_started_at < $3, false)`, fence(run)...).Scan(&before)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, db.whyNotTaken(ctx, run)
	}
	if err != nil {
		return false, fmt.Errorf("update photo: %w", translate(err))
	}
	return before, nil
}

// Finish ends the run: the photo is completed, or failed for the reason given.
// A run that never came to mark the photo may finish it too, so that whatever
// went wrong is on record. Finishing again changes nothing, not even after a later
// start of the run, which may have been cancelled between its Finish and its end;
// first tells whether this was the time that counts.
func (db *DB) Finish(ctx context.Context, run photo.Run, failure *photo.Failure) (first bool, err error) {
	status, code, message := photo.Completed, (*string)(nil), (*string)(nil)
	if failure != nil {
		status, code, message = photo.Failed, (*string)(&failure.Code), &failure.Message
	}
	tag, err := db.pool.Exec(ctx, `UPDATE photos SET status = $4, run_id = $2, run_started_at = $3,
		failure_code = $5, failure_message = $6, updated_at = now()
		WHERE `+mayTake+` AND (run_id IS DISTINCT FROM $2 OR status = 'processing')`, append(fence(run), status, code, message)...)
	if err != nil {
		return false, fmt.Errorf("update photo: %w", translate(err))
	}
	if tag.RowsAffected() == 0 {
		return false, db.whyNotTaken(ctx, run)
	}
	return true, nil
}

// whyNotTaken tells why mayTake is true of no row: nil if the run has finished.
func (db *DB) whyNotTaken(ctx context.Context, run photo.Run) error {
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
	err := db.pool.QueryRow(ctx, `SELECT url FROM photos WHERE `+owns, fence(run)...).Scan(&url)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", photo.ErrSuperseded
	}
	if err != nil {
		return "", fmt.Errorf("read photo's url: %w", translate(err))
	}
	return url, nil
}

// Outcome gives what a run that has finished its photo made, and of what. Its
// error is the *photo.Failure if the photo has failed, and photo.ErrSuperseded
// if it is not this run that finished it.
func (db *DB) Outcome(ctx context.Context, run photo.Run) (source photo.Source, thumbnails []photo.Thumbnail, err error) {
	var code, message *string
	err = db.pool.QueryRow(ctx, `SELECT coalesce(source_media_type, ''), coalesce(source_bytes, 0), coalesce(source_sha256, ''),
			failure_code, failure_message
		FROM photos WHERE uuid = $1 AND run_id = $2 AND status IN ('completed', 'failed')`, run.Photo, run.ID).
		Scan(&source.MediaType, &source.Bytes, &source.SHA256, &code, &message)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return photo.Source{}, nil, photo.ErrSuperseded
	case err != nil:
		return photo.Source{}, nil, fmt.Errorf("read run's outcome: %w", translate(err))
	case code != nil:
		return photo.Source{}, nil, &photo.Failure{Code: photo.Code(*code), Message: *message}
	}
	if thumbnails, err = db.thumbnails(ctx, run.Photo); err != nil {
		return photo.Source{}, nil, fmt.Errorf("read run's thumbnails: %w", err)
	}
	return source, thumbnails, nil
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
