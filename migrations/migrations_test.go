package migrations_test

import (
	"context"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/photo-processor/photo-processor/internal/postgres/postgrestest"
	"github.com/photo-processor/photo-processor/migrations"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

// firstSchema returns the SQL of the project's first schema, and rows. The enum
// photo_status has the given values: existing databases have one of two lists.
func firstSchema(values string) string {
	return `
CREATE TYPE photo_status AS ENUM (` + values + `);
CREATE TABLE photos (
    uuid uuid DEFAULT gen_random_uuid() PRIMARY KEY,
    url text NOT NULL,
    status photo_status DEFAULT 'pending' NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE photo_thumbnails (
    uuid uuid DEFAULT gen_random_uuid() PRIMARY KEY,
    photo_uuid uuid NOT NULL,
    width smallint NOT NULL,
    height smallint NOT NULL,
    url text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT photo_thumbnails_photo_uuid_fkey FOREIGN KEY (photo_uuid)
      REFERENCES photos (uuid) MATCH SIMPLE ON UPDATE NO ACTION ON DELETE NO ACTION,
    CONSTRAINT photo_thumbnails__photo_uuid__width__height_uniq UNIQUE (photo_uuid, width, height)
);
INSERT INTO photos (uuid, url, status) VALUES
    ('11111111-1111-4111-8111-111111111111', 'https://photos.example/1.jpg', 'pending'),
    ('22222222-2222-4222-8222-222222222222', 'https://photos.example/2.jpg', 'completed');
INSERT INTO photo_thumbnails (photo_uuid, width, height, url) VALUES
    ('22222222-2222-4222-8222-222222222222', 320, 213, 'file:///thumbs/2.jpg');
`
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// describeSchema lists the columns, constraints and indexes of all tables, and
// the values of the enum in alphabetical order.
func describeSchema(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), `
		SELECT format('%s.%s %s %s default %s', table_name, column_name, udt_name, is_nullable, column_default)
		FROM information_schema.columns WHERE table_name IN ('photos', 'photo_thumbnails', 'batches', 'batch_photos')
		UNION ALL
		SELECT format('%s: %s', conrelid::regclass, pg_get_constraintdef(oid))
		FROM pg_constraint WHERE conrelid IN ('photos'::regclass, 'photo_thumbnails'::regclass, 'batches'::regclass, 'batch_photos'::regclass)
		UNION ALL
		SELECT indexdef FROM pg_indexes WHERE tablename IN ('photos', 'photo_thumbnails', 'batches', 'batch_photos')
		UNION ALL
		SELECT 'photo_status ' || enumlabel FROM pg_enum WHERE enumtypid = 'photo_status'::regtype
		ORDER BY 1`)
	require.NoError(t, err)
	described, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.NotEmpty(t, described)
	return described
}

func TestApplyToAnEmptyDatabase(t *testing.T) {
	t.Parallel()
	conn := connect(t, postgrestest.Empty(t))
	require.NoError(t, migrations.Apply(t.Context(), conn))
	before := describeSchema(t, conn)
	require.NoError(t, migrations.Apply(t.Context(), conn), "a second time")
	require.Equal(t, before, describeSchema(t, conn))
}

func TestApplyToTheFirstSchema(t *testing.T) {
	t.Parallel()
	fresh := connect(t, postgrestest.URL(t))
	for name, values := range map[string]string{
		"with all statuses": `'pending', 'completed', 'processing', 'failed'`,
		"with two statuses": `'pending', 'completed'`,
	} {
		t.Run(name, func(t *testing.T) {
			conn := connect(t, postgrestest.Empty(t))
			_, err := conn.Exec(t.Context(), firstSchema(values))
			require.NoError(t, err)

			require.NoError(t, migrations.Apply(t.Context(), conn))

			require.Equal(t, describeSchema(t, fresh), describeSchema(t, conn), "the same as in a new database")
			var photos string
			require.NoError(t, conn.QueryRow(t.Context(),
				`SELECT string_agg(uuid || ' ' || url || ' ' || status, E'\n' ORDER BY url) FROM photos`).Scan(&photos))
			require.Equal(t, "11111111-1111-4111-8111-111111111111 https://photos.example/1.jpg pending\n"+
				"22222222-2222-4222-8222-222222222222 https://photos.example/2.jpg completed", photos)
			var thumbnail string
			require.NoError(t, conn.QueryRow(t.Context(), `SELECT url FROM photo_thumbnails`).Scan(&thumbnail))
			require.Equal(t, "file:///thumbs/2.jpg", thumbnail)

			_, err = conn.Exec(t.Context(), `UPDATE photos SET status = 'failed', failure_code = 'x', failure_message = 'y'`)
			require.NoError(t, err, "the added values can be used")
		})
	}
}

func TestApplyKeepsRowsThatViolateTheChecks(t *testing.T) {
	t.Parallel()
	conn := connect(t, postgrestest.Empty(t))
	_, err := conn.Exec(t.Context(), firstSchema(`'pending', 'completed'`)+`
		INSERT INTO photos (url) VALUES ('');
		INSERT INTO photo_thumbnails (photo_uuid, width, height, url) VALUES ('11111111-1111-4111-8111-111111111111', 0, 0, 'x');`)
	require.NoError(t, err)
	require.NoError(t, migrations.Apply(t.Context(), conn))
	_, err = conn.Exec(t.Context(), `INSERT INTO photos (url) VALUES ('')`)
	require.ErrorContains(t, err, "photos__url_check", "new rows are checked")
}

func TestApplyConcurrently(t *testing.T) {
	t.Parallel()
	url := postgrestest.Empty(t)
	_, err := connect(t, url).Exec(t.Context(), firstSchema(`'pending', 'completed'`))
	require.NoError(t, err)
	var group errgroup.Group
	for range 8 {
		conn := connect(t, url)
		group.Go(func() error { return migrations.Apply(t.Context(), conn) })
	}
	require.NoError(t, group.Wait())
	require.Equal(t, describeSchema(t, connect(t, postgrestest.URL(t))), describeSchema(t, connect(t, url)))
}

func TestApplyLeavesANewerSchemaAlone(t *testing.T) {
	t.Parallel()
	conn := connect(t, postgrestest.URL(t))
	_, err := conn.Exec(t.Context(), `UPDATE schema_version SET version = 1000`)
	require.NoError(t, err)
	require.NoError(t, migrations.Apply(t.Context(), conn))
}

func TestReset(t *testing.T) {
	t.Parallel()
	conn := connect(t, postgrestest.URL(t))
	before := describeSchema(t, conn)
	_, err := conn.Exec(t.Context(), `INSERT INTO photos (url) VALUES ('https://photos.example/1.jpg')`)
	require.NoError(t, err)
	require.NoError(t, migrations.Reset(t.Context(), conn))
	require.Equal(t, before, describeSchema(t, conn))
	var photos int
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM photos`).Scan(&photos))
	require.Zero(t, photos)
}
