package postgres_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/postgres/postgrestest"
)

func TestPingRequiresTheSchema(t *testing.T) {
	t.Parallel()
	url := postgrestest.URL(t)
	db, err := postgres.Open(url, 2)
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, db.Ping(t.Context()))
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), `DROP TABLE photos CASCADE`)
	require.NoError(t, err)
	require.ErrorContains(t, db.Ping(t.Context()), "photos")
}

// TestEncodings uses databases that are not encoded in UTF-8.
func TestEncodings(t *testing.T) {
	t.Parallel()
	for _, encoding := range []string{"SQL_ASCII", "LATIN1"} {
		t.Run(encoding, func(t *testing.T) {
			t.Parallel()
			database, err := url.Parse(postgrestest.Server())
			require.NoError(t, err)
			name := "encoding_" + strings.ToLower(encoding)
			exec(t, connect(t, database.String()), `CREATE DATABASE `+name+` ENCODING '`+encoding+`' LOCALE 'C' TEMPLATE template0`)
			database.Path = "/" + name
			db, err := postgres.Open(database.String(), 2)
			require.NoError(t, err)
			defer db.Close()
			require.NoError(t, db.Migrate(t.Context()))
			const source = "https://photos.example/bär.jpg"
			added, err := db.AddPhotos(t.Context(), []string{source})
			require.NoError(t, err)
			read, err := db.Photo(t.Context(), added[0].UUID)
			require.NoError(t, err)
			require.Equal(t, source, read.URL)
		})
	}
}

func TestUnavailable(t *testing.T) {
	t.Parallel()
	t.Run("nobody listens", func(t *testing.T) {
		t.Parallel()
		db, err := postgres.Open("postgres://photos@127.0.0.1:1/photos", 2)
		require.NoError(t, err, "opening does not connect")
		defer db.Close()
		require.ErrorIs(t, db.Ping(t.Context()), postgres.ErrUnavailable)
		require.ErrorIs(t, mark(t, db, photo.Run{}), postgres.ErrUnavailable)
	})
	t.Run("the server ends the connection", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		other := connect(t, b.url)
		exec(t, other, `BEGIN; SELECT FROM photos FOR UPDATE`)
		marked := make(chan error, 1)
		go func() { marked <- mark(t, b.db, b.older) }()
		require.Eventually(t, func() bool {
			var killed int
			err := other.QueryRow(t.Context(), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
				WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&killed)
			return err == nil && killed == 1
		}, 10*time.Second, 10*time.Millisecond)
		require.ErrorIs(t, <-marked, postgres.ErrUnavailable)
		exec(t, other, `ROLLBACK`)
		require.NoError(t, mark(t, b.db, b.older), "the pool recovers")
	})
	t.Run("a read is retried", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		var group errgroup.Group
		for range 8 { // the size of the pool
			group.Go(func() error {
				_, err := b.db.Photo(t.Context(), b.photo)
				return err
			})
		}
		require.NoError(t, group.Wait())
		_, err := terminateOthers(t, b.db)
		require.NoError(t, err)
		_, err = b.db.Photo(t.Context(), b.photo)
		require.NoError(t, err)
		_, err = b.db.Photos(t.Context(), photo.Pending, postgres.Cursor{}, 10)
		require.NoError(t, err)
	})
	t.Run("the deadline passes", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
		defer cancel()
		_, err := b.db.MarkProcessing(ctx, b.older)
		require.ErrorIs(t, err, postgres.ErrUnavailable)
	})
	t.Run("cancelled is not unavailable", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := b.db.MarkProcessing(ctx, b.older)
		require.ErrorIs(t, err, context.Canceled)
		require.False(t, errors.Is(err, postgres.ErrUnavailable))
	})
}

// terminateOthers ends the database's other connections, as a restart does.
func terminateOthers(t *testing.T, db *postgres.DB) (killed int, err error) {
	t.Helper()
	err = db.QueryRowForTest(t.Context(), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid()`).Scan(&killed)
	return killed, err
}
