package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// ErrNoBatch means that no batch has the UUID.
var ErrNoBatch = errors.New("there is no batch with this UUID")

// toTexts returns the UUIDs as texts: some modes of pgx cannot send a
// []uuid.UUID.
func toTexts(ids []uuid.UUID) []string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = id.String()
	}
	return texts
}

// CreateBatch creates a batch of photos that are not started yet. It must
// return before the first of them is started, because it records which run owned
// each photo until then. It is idempotent.
func (db *DB) CreateBatch(ctx context.Context, batch uuid.UUID, photos []uuid.UUID) error {
	return db.exec(ctx, "create batch", `WITH batch AS (INSERT INTO batches (uuid) VALUES ($1) ON CONFLICT DO NOTHING RETURNING uuid)
		INSERT INTO batch_photos (batch_uuid, photo_uuid, old_run_id)
		SELECT batch.uuid, id, p.run_id FROM batch, unnest($2::uuid[]) AS id LEFT JOIN photos p ON p.uuid = id`,
		batch, toTexts(photos))
}

// BatchPhoto is a photo of a batch.
type BatchPhoto struct {
	Photo  uuid.UUID
	Run    string // was started for the batch, or was open then
	OldRun string // owned the photo before
}

// ReadOldRuns sets OldRun of the photos.
func (db *DB) ReadOldRuns(ctx context.Context, photos []BatchPhoto) error {
	ids := make([]uuid.UUID, len(photos))
	index := make(map[uuid.UUID]int, len(photos))
	for i, p := range photos {
		ids[i], index[p.Photo] = p.Photo, i
	}
	found, err := db.PhotosByUUID(ctx, ids)
	for _, p := range found {
		photos[index[p.UUID]].OldRun = p.RunID
	}
	return err
}

// CreateStartedBatch creates a batch of photos that have been started.
func (db *DB) CreateStartedBatch(ctx context.Context, batch uuid.UUID, photos []BatchPhoto) error {
	ids, oldRuns := make([]string, len(photos)), make([]string, len(photos))
	for i, p := range photos {
		ids[i] = p.Photo.String()
		if p.OldRun != p.Run {
			oldRuns[i] = p.OldRun
		}
	}
	return db.exec(ctx, "create batch", `WITH batch AS (INSERT INTO batches (uuid, started_at) VALUES ($1, now()) ON CONFLICT DO NOTHING RETURNING uuid)
		INSERT INTO batch_photos (batch_uuid, photo_uuid, old_run_id)
		SELECT batch.uuid, t.id, nullif(t.run, '') FROM batch, unnest($2::uuid[], $3::text[]) AS t (id, run)`,
		batch, ids, oldRuns)
}

// CreateEmptyBatch creates a batch without photos; SelectPage adds them. It is
// idempotent.
func (db *DB) CreateEmptyBatch(ctx context.Context, batch uuid.UUID, query string) error {
	return db.exec(ctx, "create batch", `INSERT INTO batches (uuid, query) VALUES ($1, $2) ON CONFLICT DO NOTHING`, batch, query)
}

// SelectPage adds up to limit photos of the selection after the cursor to the
// batch, the oldest first, and returns them with the cursor of the next page. It
// is idempotent until one of them is started.
func (db *DB) SelectPage(ctx context.Context, batch uuid.UUID, selection photo.Selection, after Cursor, limit int) (photos []uuid.UUID, next Cursor, err error) {
	args := []any{batch, selection.Status, after.CreatedAt, after.UUID, limit}
	where := `status = $2 AND (created_at, uuid) > ($3, $4)`
	if selection.Code != "" { // not one statement for both: each has its index
		args = append(args, selection.Code)
		where += fmt.Sprintf(` AND failure_code = $%d`, len(args))
	}
	if !selection.CreatedBefore.IsZero() {
		args = append(args, selection.CreatedBefore)
		where += fmt.Sprintf(` AND created_at < $%d`, len(args))
	}
	next = after
	rows, err := retryStale(func() (pgx.Rows, error) {
		return db.pool.Query(ctx, `WITH page AS MATERIALIZED (
				SELECT uuid, created_at, run_id FROM photos WHERE `+where+` ORDER BY created_at, uuid LIMIT $5),
			added AS (INSERT INTO batch_photos (batch_uuid, photo_uuid, old_run_id) SELECT $1, uuid, run_id FROM page ON CONFLICT DO NOTHING)
			SELECT uuid, created_at FROM page ORDER BY created_at, uuid`, args...)
	})
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&next.UUID, &next.CreatedAt}, func() error {
			photos = append(photos, next.UUID)
			return nil
		})
	}
	if err != nil {
		return nil, after, fmt.Errorf("select photos for a batch: %w", translate(err))
	}
	return photos, next, nil
}

// JoinRuns makes the batch count runs that were already open when it started
// their photos. Runs that it started itself always count. It is idempotent.
func (db *DB) JoinRuns(ctx context.Context, batch uuid.UUID, photos []BatchPhoto) error {
	ids, runs := make([]string, len(photos)), make([]string, len(photos))
	for i, p := range photos {
		ids[i], runs[i] = p.Photo.String(), p.Run
	}
	return db.exec(ctx, "update batch", `UPDATE batch_photos SET old_run_id = NULL FROM unnest($2::uuid[], $3::text[]) AS t (id, run)
		WHERE batch_uuid = $1 AND photo_uuid = t.id AND old_run_id = t.run`, batch, ids, runs)
}

// EndBatch records that no further photo of the batch is started, and removes
// the photos that were not. It is idempotent.
func (db *DB) EndBatch(ctx context.Context, batch uuid.UUID, canceled bool, notStarted []uuid.UUID) error {
	return db.exec(ctx, "end batch", `WITH removed AS (DELETE FROM batch_photos WHERE batch_uuid = $1 AND photo_uuid = ANY ($3::uuid[]))
		UPDATE batches SET started_at = now(), canceled_at = CASE WHEN $2 THEN now() END WHERE uuid = $1 AND started_at IS NULL`,
		batch, canceled, toTexts(notStarted))
}

// AbandonBatch is EndBatch for a batch whose workflow is gone: it was
// terminated, or Temporal has lost it. The photos that are still pending in the
// batch leave it, because it is unknown which of them were started.
func (db *DB) AbandonBatch(ctx context.Context, batch uuid.UUID) error {
	return db.exec(ctx, "abandon batch", `WITH removed AS (DELETE FROM batch_photos USING (
			SELECT photo_uuid FROM batch_photos m JOIN photos p ON p.uuid = m.photo_uuid
			WHERE m.batch_uuid = $1 AND `+batchStatus+` = 'pending') AS pending
			WHERE batch_uuid = $1 AND batch_photos.photo_uuid = pending.photo_uuid)
		UPDATE batches SET started_at = now(), canceled_at = now() WHERE uuid = $1 AND started_at IS NULL`, batch)
}

// DeleteBatches deletes the batches that are older than age.
func (db *DB) DeleteBatches(ctx context.Context, age time.Duration) error {
	return db.exec(ctx, "delete batches", `DELETE FROM batches WHERE created_at < now() - $1::interval`, age)
}

// exec executes a statement. The error says what failed.
func (db *DB) exec(ctx context.Context, what, sql string, args ...any) error {
	_, err := retryStale(func() (any, error) { return db.pool.Exec(ctx, sql, args...) })
	if err != nil {
		return fmt.Errorf("%s: %w", what, translate(err))
	}
	return nil
}

// Batch returns a batch, or ErrNoBatch.
func (db *DB) Batch(ctx context.Context, id uuid.UUID) (photo.Batch, error) {
	batches, err := db.listBatches(ctx, `uuid = $1`, id)
	switch {
	case err != nil:
		return photo.Batch{}, err
	case len(batches) == 0:
		return photo.Batch{}, ErrNoBatch
	}
	return batches[0], nil
}

// Batches lists up to limit batches before the cursor, the newest first. The
// zero Cursor is the start.
func (db *DB) Batches(ctx context.Context, before Cursor, limit int) ([]photo.Batch, error) {
	created, id := before.descending()
	return db.listBatches(ctx, `(created_at, uuid) < ($1, $2) ORDER BY created_at DESC, uuid DESC LIMIT $3`, created, id, limit)
}

// BatchesByID lists the batches with the IDs that exist, in no order.
func (db *DB) BatchesByID(ctx context.Context, ids []uuid.UUID) ([]photo.Batch, error) {
	return db.listBatches(ctx, `uuid = ANY ($1::uuid[])`, toTexts(ids))
}

// OpenBatches lists up to limit batches that are not done, the newest first.
func (db *DB) OpenBatches(ctx context.Context, limit int) ([]photo.Batch, error) {
	return db.listBatches(ctx, `done_at IS NULL ORDER BY created_at DESC LIMIT $1`, limit)
}

// UnstartedBatches lists up to limit batches older than age that have photos
// which are not started, the oldest first.
func (db *DB) UnstartedBatches(ctx context.Context, age time.Duration, limit int) ([]uuid.UUID, error) {
	rows, err := db.pool.Query(ctx, `SELECT uuid FROM batches WHERE done_at IS NULL AND started_at IS NULL AND created_at < now() - $1::interval
		ORDER BY created_at LIMIT $2`, age, limit)
	if err != nil {
		return nil, fmt.Errorf("list batches: %w", translate(err))
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("list batches: %w", translate(err))
	}
	return ids, nil
}

// batchStatus is the status of a photo p in a batch, of which m is the row in
// batch_photos. A final status of an earlier run counts as pending. Rows from
// before migration 2 have no run ID.
const batchStatus = `CASE WHEN p.uuid IS NULL THEN 'failed'
	WHEN p.status IN ('completed', 'failed') AND (p.run_id IS NULL OR p.run_id = m.old_run_id) THEN 'pending'
	ELSE p.status END`

// batchResult is the counts of a batch that is done, in batches.result.
type batchResult struct {
	Completed int                `json:"completed"`
	Failures  map[photo.Code]int `json:"failures,omitempty"`
}

// listBatches reads the batches for which the condition holds, and then counts
// the photos of those that are not done. A batch that it finds done gets its
// result.
func (db *DB) listBatches(ctx context.Context, where string, args ...any) ([]photo.Batch, error) {
	batches, err := retryRead(db, func() ([]photo.Batch, error) { return db.readBatches(ctx, where, args) })
	if err != nil {
		return nil, fmt.Errorf("read batches: %w", err)
	}
	return batches, nil
}

func (db *DB) readBatches(ctx context.Context, where string, args []any) ([]photo.Batch, error) {
	rows, err := db.pool.Query(ctx, `SELECT uuid, created_at, coalesce(query, ''), canceled_at IS NOT NULL, started_at IS NOT NULL, done_at, result FROM batches WHERE `+where, args...)
	if err != nil {
		return nil, translate(err)
	}
	started := map[uuid.UUID]bool{}
	batches, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (b photo.Batch, err error) {
		var isStarted bool
		var done *time.Time
		var stored []byte
		if err := row.Scan(&b.ID, &b.CreatedAt, &b.Query, &b.Canceled, &isStarted, &done, &stored); err != nil {
			return b, err
		}
		started[b.ID] = isStarted
		if done == nil {
			return b, nil
		}
		b.DoneAt = *done
		var result batchResult
		if err := json.Unmarshal(stored, &result); err != nil {
			return b, err
		}
		b.Completed = result.Completed
		for code, n := range result.Failures {
			b.Add(photo.Failed, code, n)
		}
		return b, nil
	})
	if err != nil {
		return nil, translate(err)
	}
	open := map[uuid.UUID]*photo.Batch{}
	var ids []uuid.UUID
	for i := range batches {
		if b := &batches[i]; b.DoneAt.IsZero() {
			open[b.ID] = b
			ids = append(ids, b.ID)
		}
	}
	if len(ids) == 0 {
		return batches, nil
	}
	if err := db.countBatches(ctx, ids, open); err != nil {
		return nil, err
	}
	for id, b := range open {
		if started[id] && b.Pending+b.Processing == 0 {
			if err := db.storeResult(ctx, b); err != nil {
				return nil, err
			}
		}
	}
	return batches, nil
}

// countBatches counts the photos of the batches.
func (db *DB) countBatches(ctx context.Context, ids []uuid.UUID, open map[uuid.UUID]*photo.Batch) error {
	rows, err := db.pool.Query(ctx, `SELECT m.batch_uuid, `+batchStatus+` AS status, CASE WHEN p.uuid IS NULL THEN 'photo_not_found' ELSE coalesce(p.failure_code, '') END AS code, count(*)
		FROM batch_photos m LEFT JOIN photos p ON p.uuid = m.photo_uuid WHERE m.batch_uuid = ANY ($1::uuid[]) GROUP BY 1, 2, 3`, toTexts(ids))
	if err != nil {
		return translate(err)
	}
	var id uuid.UUID
	var status photo.Status
	var code photo.Code
	var n int
	_, err = pgx.ForEachRow(rows, []any{&id, &status, &code, &n}, func() error {
		open[id].Add(status, code, n)
		return nil
	})
	return translate(err)
}

// storeResult stores the counts of a batch that was found done, unless it has
// some already.
func (db *DB) storeResult(ctx context.Context, b *photo.Batch) error {
	result, err := json.Marshal(batchResult{b.Completed, b.Failures})
	if err != nil {
		return err
	}
	err = db.pool.QueryRow(ctx, `UPDATE batches SET done_at = coalesce(done_at, now()), result = coalesce(result, $2::jsonb) WHERE uuid = $1 RETURNING done_at`,
		b.ID, string(result)).Scan(&b.DoneAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // deleted meanwhile
	}
	return translate(err)
}
