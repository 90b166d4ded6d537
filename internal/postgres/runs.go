package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// newerOrOwner is the condition that the run is newer than the photo's owner,
// or is the owner and has not finished. It guards the writes by which a run
// takes or gives up ownership. A run starts again if its first workflow task is
// lost, so that the start is part of the fencing token. The parameters are
// those of fenceArgs.
const newerOrOwner = `uuid = $1 AND (run_started_at IS NULL OR run_started_at < $3 OR (run_id = $2 AND run_started_at = $3 AND status = 'processing'))`

// owned is the condition that the run owns the photo: it has called
// MarkProcessing, and neither has it called Finish nor has a newer run acquired
// the photo. The parameters are those of fenceArgs.
const owned = `uuid = $1 AND run_id = $2 AND run_started_at = $3 AND status = 'processing'`

// fenceArgs returns the parameters $1 to $3 of newerOrOwner and owned: the
// photo, the run's ID, and its start, truncated to the microseconds that
// PostgreSQL stores.
func fenceArgs(run photo.Run) []any {
	return []any{run.Photo, run.ID, run.StartedAt.UTC().Truncate(time.Microsecond)}
}

// MarkProcessing makes the run the photo's owner, and the photo's status
// processing. It is idempotent; remarked is true if the same run had marked the
// photo before, in a workflow task that was lost. After Finish it has no effect,
// unless the run has started again since. It returns photo.ErrNotFound, or
// photo.ErrSuperseded if a newer run has acquired the photo.
func (db *DB) MarkProcessing(ctx context.Context, run photo.Run) (remarked bool, err error) {
	remarked, err = retryStale(func() (remarked bool, err error) {
		err = db.pool.QueryRow(ctx, `UPDATE photos SET status = 'processing', run_id = $2, run_started_at = $3,
			failure_code = NULL, failure_message = NULL, updated_at = now()
			FROM (SELECT run_id AS previous_run FROM photos WHERE uuid = $1) AS before
			WHERE `+newerOrOwner+` RETURNING previous_run IS NOT DISTINCT FROM $2`, fenceArgs(run)...).Scan(&remarked)
		return remarked, err
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, db.explainNotUpdated(ctx, run)
	case err != nil:
		return false, fmt.Errorf("update photo: %w", translate(err))
	}
	return remarked, nil
}

// Finish writes the photo's final status: failed if there is a failure, else
// completed. The run must own the photo, or be newer than its owner, as is a
// run that is canceled before MarkProcessing. Finish is idempotent: it writes
// the status once for a run ID, even if the run starts again; first is true if
// this call wrote the status, and url is then the photo's URL. Finish returns
// photo.ErrNotFound, or photo.ErrSuperseded if a newer run has acquired the
// photo.
func (db *DB) Finish(ctx context.Context, run photo.Run, failure *photo.Failure) (url string, first bool, err error) {
	status, code, message := photo.Completed, (*string)(nil), (*string)(nil)
	if failure != nil {
		status, code, message = photo.Failed, (*string)(&failure.Code), &failure.Message
	}
	url, err = retryStale(func() (url string, err error) {
		err = db.pool.QueryRow(ctx, `UPDATE photos SET status = $4, run_id = $2, run_started_at = $3,
			failure_code = $5, failure_message = $6, updated_at = now()
			WHERE `+newerOrOwner+` AND (run_id IS DISTINCT FROM $2 OR status = 'processing') RETURNING url`,
			append(fenceArgs(run), status, code, message)...).Scan(&url)
		return url, err
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return "", false, db.explainNotUpdated(ctx, run)
	case err != nil:
		return "", false, fmt.Errorf("update photo: %w", translate(err))
	}
	return url, true, nil
}

// explainNotUpdated returns the reason why an UPDATE with newerOrOwner changed
// no row: photo.ErrNotFound, photo.ErrSuperseded, or nil if the run itself has
// finished.
func (db *DB) explainNotUpdated(ctx context.Context, run photo.Run) error {
	var owner *string
	err := db.pool.QueryRow(ctx, `SELECT run_id FROM photos WHERE uuid = $1`, run.Photo).Scan(&owner)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return photo.ErrNotFound
	case err != nil:
		return fmt.Errorf("read photo's run: %w", translate(err))
	case owner != nil && *owner == run.ID:
		return nil
	default:
		return photo.ErrSuperseded
	}
}

// SourceURL returns the photo's URL, or photo.ErrSuperseded unless the run owns
// the photo.
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
