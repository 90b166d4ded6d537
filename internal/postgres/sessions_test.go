package postgres_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/postgres/postgrestest"
)

// connect opens an administrator's connection to the database.
func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql)
	require.NoError(t, err, sql)
}

// beginFailover ends the other sessions of the database, and makes new ones
// read-only, as on a standby before its promotion.
func beginFailover(t *testing.T, admin *pgx.Conn) (promote func()) {
	t.Helper()
	var database string
	require.NoError(t, admin.QueryRow(t.Context(), `SELECT current_database()`).Scan(&database))
	quoted := pgx.Identifier{database}.Sanitize()
	exec(t, admin, `ALTER DATABASE `+quoted+` SET default_transaction_read_only = on`)
	exec(t, admin, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	return func() {
		t.Helper()
		exec(t, admin, `ALTER DATABASE `+quoted+` RESET default_transaction_read_only`)
	}
}

// TestSessionsAreReplacedAfterAFailover lets all sessions of a pool begin on a
// server that is read-only, as a standby is before its promotion. When it is
// writable, the next write must succeed.
func TestSessionsAreReplacedAfterAFailover(t *testing.T) {
	t.Parallel()
	dsn := postgrestest.URL(t)
	admin := connect(t, dsn)
	db, err := postgres.Open(dsn, 8)
	require.NoError(t, err)
	defer db.Close()
	photos, err := db.AddPhotos(t.Context(), []string{"https://photos.example/1.jpg"})
	require.NoError(t, err)
	run := photo.Run{Photo: photos[0].UUID, ID: uuid.NewString(), StartedAt: time.Now()}
	promote := beginFailover(t, admin)
	var group errgroup.Group
	for range 8 { // the size of the pool
		group.Go(func() error {
			_, err := db.Photo(t.Context(), run.Photo)
			return err
		})
	}
	require.NoError(t, group.Wait(), "reads go on")
	require.ErrorIs(t, mark(t, db, run), postgres.ErrUnavailable)

	promote()
	require.NoError(t, mark(t, db, run))
	_, err = db.AddPhotos(t.Context(), []string{"https://photos.example/2.jpg"})
	require.NoError(t, err)
	_, _, err = db.Finish(t.Context(), run, nil)
	require.NoError(t, err)
}

// TestThumbnailsArePublishedAfterAFailover makes PublishThumbnails the first
// write on sessions that are read-only. Its statements are prepared on the
// session that rejects them, and must be prepared again on the next one.
func TestThumbnailsArePublishedAfterAFailover(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := connect(t, b.url)
	require.NoError(t, mark(t, b.db, b.older))
	publish := func() error {
		return b.db.PublishThumbnails(t.Context(), b.older, aSource, []photo.Thumbnail{thumbnail(320, 213, "a")}, aPlaceholder)
	}
	promote := beginFailover(t, admin)
	require.Eventually(t, func() bool { // the first attempts find closed connections
		err := publish()
		return err != nil && strings.Contains(err.Error(), "SQLSTATE 25006")
	}, 10*time.Second, 10*time.Millisecond, "not the error of a missing statement")
	_ = b.get(t) // a read keeps a read-only session in the pool
	promote()
	require.NoError(t, publish())
}

// TestAChangedSchemaIsNoticed changes a table under prepared statements.
func TestAChangedSchemaIsNoticed(t *testing.T) {
	t.Parallel()
	dsn := postgrestest.URL(t)
	db, err := postgres.Open(dsn, 1)
	require.NoError(t, err)
	defer db.Close()
	photos, err := db.AddPhotos(t.Context(), []string{"https://photos.example/1.jpg"})
	require.NoError(t, err)
	_, err = db.Photo(t.Context(), photos[0].UUID)
	require.NoError(t, err)
	exec(t, connect(t, dsn), `ALTER TABLE photos ALTER COLUMN url TYPE varchar(9000)`)
	_, err = db.Photo(t.Context(), photos[0].UUID)
	require.NoError(t, err)
	_, err = db.AddPhotos(t.Context(), []string{"https://photos.example/2.jpg"})
	require.NoError(t, err)
}

// TestErrorsOfTheServerAreTransient has errors that no photo is to blame for.
func TestErrorsOfTheServerAreTransient(t *testing.T) {
	t.Parallel()
	dsn := postgrestest.URL(t)
	missing := "missing_" + uuid.NewString()[:8]
	withoutPrivileges := postgrestest.URL(t)
	exec(t, connect(t, withoutPrivileges), `REVOKE ALL ON photos FROM CURRENT_USER`)
	as := func(user, database string) string {
		cfg, err := pgx.ParseConfig(dsn)
		require.NoError(t, err)
		if user == "" {
			user = cfg.User
		}
		if database == "" {
			database = cfg.Database
		}
		return (&url.URL{
			Scheme: "postgres", User: url.UserPassword(user, cfg.Password), Path: "/" + database,
			RawQuery: url.Values{"host": {cfg.Host}, "port": {fmt.Sprint(cfg.Port)}}.Encode(),
		}).String()
	}
	for name, dsn := range map[string]string{
		"a role that does not exist":     as(missing, ""),
		"a database that does not exist": as("", missing),
		"a role without privileges":      withoutPrivileges,
		"no schema":                      postgrestest.Empty(t),
	} {
		t.Run(name, func(t *testing.T) {
			db, err := postgres.Open(dsn, 2)
			require.NoError(t, err)
			defer db.Close()
			require.ErrorIs(t, mark(t, db, photo.Run{Photo: uuid.New()}), postgres.ErrUnavailable)
			_, err = db.Photo(t.Context(), uuid.New())
			require.ErrorIs(t, err, postgres.ErrUnavailable)
		})
	}
	t.Run("but not those of a value", func(t *testing.T) {
		db, err := postgres.Open(dsn, 2)
		require.NoError(t, err)
		defer db.Close()
		_, err = db.AddPhotos(t.Context(), []string{"https://photos.example/\x00.jpg"})
		require.Error(t, err)
		require.NotErrorIs(t, err, postgres.ErrUnavailable)
	})
	t.Run("a process that starts says so and ends", func(t *testing.T) {
		db, err := postgres.Open(as(missing, ""), 2)
		require.NoError(t, err)
		defer db.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err = db.MigrateWhenReady(ctx, slog.New(slog.DiscardHandler))
		require.NoError(t, ctx.Err())
		require.ErrorContains(t, err, "does not exist")
	})
}
