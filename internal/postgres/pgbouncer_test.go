package postgres_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/postgres/postgrestest"
)

// startPgBouncer starts a PgBouncer in transaction mode before the database.
func startPgBouncer(t *testing.T, dsn string, connections int) string {
	t.Helper()
	pooled, stop, err := devstacktest.PgBouncer(t.Context(), dsn, connections)
	require.NoError(t, err)
	t.Cleanup(stop)
	return pooled
}

// openPool opens a pool of the program.
func openPool(t *testing.T, dsn string, connections int32) *postgres.DB {
	t.Helper()
	db, err := postgres.Open(dsn, connections)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	return db
}

// TestTransactionPooling calls every method concurrently through a PgBouncer
// that may give each transaction another session.
func TestTransactionPooling(t *testing.T) {
	t.Parallel()
	for name, parameter := range map[string]string{
		"default":         "",
		"cache_describe":  "&default_query_exec_mode=cache_describe",
		"exec":            "&default_query_exec_mode=exec",
		"simple_protocol": "&default_query_exec_mode=simple_protocol",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testTransactionPooling(t, startPgBouncer(t, postgrestest.Empty(t), 3)+parameter)
		})
	}
}

func testTransactionPooling(t *testing.T, dsn string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const processes, photosEach = 2, 8
	dbs := make([]*postgres.DB, processes)
	var migrations errgroup.Group
	for i := range dbs {
		dbs[i] = openPool(t, dsn, 8)
		migrations.Go(func() error { return dbs[i].Migrate(ctx) })
	}
	require.NoError(t, migrations.Wait())

	var group errgroup.Group
	for i := range processes * photosEach {
		group.Go(func() error { return callEveryMethod(ctx, dbs[i%processes], i) })
	}
	require.NoError(t, group.Wait())
	require.NoError(t, dbs[0].Reset(ctx))
	require.NoError(t, callEveryMethod(ctx, dbs[0], 0))
}

// callEveryMethod lets three runs finish a photo, and calls all methods of the
// DB but Migrate and Reset.
func callEveryMethod(ctx context.Context, db *postgres.DB, seed int) error {
	added, err := db.AddPhotos(ctx, []string{fmt.Sprintf("https://photos.example/%d.jpg", seed), "https://photos.example/'\\\".jpg"})
	if err != nil {
		return err
	}
	if err := db.Ping(ctx); err != nil {
		return fmt.Errorf("Ping: %w", err)
	}
	for i := range 3 {
		run := photo.Run{Photo: added[0].UUID, ID: uuid.NewString(), StartedAt: time.Now().Add(time.Duration(i) * time.Second)}
		if _, err := db.MarkProcessing(ctx, run); err != nil {
			return fmt.Errorf("MarkProcessing: %w", err)
		}
		url, err := db.SourceURL(ctx, run)
		if err != nil {
			return fmt.Errorf("SourceURL: %w", err)
		}
		if url != added[0].URL {
			return fmt.Errorf("SourceURL returned %q instead of %q", url, added[0].URL)
		}
		processing, err := db.IsProcessing(ctx, run)
		if err != nil || !processing {
			return fmt.Errorf("IsProcessing: %v, %w", processing, err)
		}
		thumbnails := []photo.Thumbnail{thumbnail(320, 213, fmt.Sprint("a", i)), thumbnail(64, 43, "b")}
		if err := db.PublishThumbnails(ctx, run, aSource, thumbnails, aPlaceholder); err != nil {
			return fmt.Errorf("PublishThumbnails: %w", err)
		}
		if _, err := db.ListProcessing(ctx, postgres.Cursor{}, 100); err != nil {
			return fmt.Errorf("ListProcessing: %w", err)
		}
		if _, err := db.Backlog(ctx); err != nil {
			return fmt.Errorf("Backlog: %w", err)
		}
		failure := aFailure
		if i == 2 {
			failure = nil
		}
		if _, first, err := db.Finish(ctx, run, failure); err != nil || !first {
			return fmt.Errorf("Finish: %v, %w", first, err)
		}
		if _, first, err := db.Finish(ctx, run, failure); err != nil || first {
			return fmt.Errorf("Finish again: %v, %w", first, err)
		}
		if status, keys, err := db.ThumbnailKeys(ctx, run.Photo); err != nil || !status.IsFinal() || len(keys) != 2 {
			return fmt.Errorf("ThumbnailKeys: %s, %v, %w", status, keys, err)
		}
	}
	p, err := db.Photo(ctx, added[0].UUID)
	if err != nil || p.Status != photo.Completed || len(p.Thumbnails) != 2 {
		return fmt.Errorf("Photo: %+v, %w", p, err)
	}
	if _, err := db.Photos(ctx, photo.Pending, postgres.Cursor{}, 100); err != nil {
		return fmt.Errorf("Photos: %w", err)
	}
	return nil
}

// TestMigrationsTakeTurnsBehindPgBouncer lets processes migrate through one
// session, in which a lock of the session would exclude none of them.
func TestMigrationsTakeTurnsBehindPgBouncer(t *testing.T) {
	t.Parallel()
	dsn := postgrestest.Empty(t)
	pooled := startPgBouncer(t, dsn, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var group errgroup.Group
	for range 4 {
		db := openPool(t, pooled, 1)
		group.Go(func() error { return db.Migrate(ctx) })
	}
	require.NoError(t, group.Wait())
	admin := connect(t, dsn)
	var locks, version int
	require.NoError(t, admin.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(&locks))
	require.Zero(t, locks, "no session keeps the lock")
	require.NoError(t, admin.QueryRow(t.Context(), `SELECT version FROM schema_version`).Scan(&version))
	require.Positive(t, version)
}

// TestExecModes chooses in DATABASE_URL how statements are executed.
func TestExecModes(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, callEveryMethod(t.Context(), openPool(t, postgrestest.URL(t)+"&default_query_exec_mode="+mode, 2), 0))
		})
	}
}

// TestStatementsArePreparedUnlessPooled counts the prepared statements of the
// only session.
func TestStatementsArePreparedUnlessPooled(t *testing.T) {
	t.Parallel()
	prepared := func(t *testing.T, dsn string) (n int) {
		db := openPool(t, dsn, 1)
		_, err := db.Photos(t.Context(), photo.Pending, postgres.Cursor{}, 10)
		require.NoError(t, err)
		require.NoError(t, db.QueryRowForTest(t.Context(), `SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%FROM photos%'`,
			pgx.QueryExecModeSimpleProtocol).Scan(&n))
		return n
	}
	dsn := postgrestest.URL(t)
	require.Equal(t, 1, prepared(t, dsn))
	require.Zero(t, prepared(t, startPgBouncer(t, dsn, 1)))
}
