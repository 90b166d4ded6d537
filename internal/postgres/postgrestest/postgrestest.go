// Package postgrestest gives each test a PostgreSQL database of its own: a
// clone of a template that was migrated once, on a server that the package's
// tests share.
package postgrestest

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // pgtestdb speaks database/sql
	"github.com/peterldowns/pgtestdb"

	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/migrations"
)

var server string // the shared server's connection string

// Main is for TestMain: it runs the tests while a server runs, and gives the
// exit code.
func Main(m *testing.M) int {
	dsn, stop, err := devstacktest.Postgres(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer stop()
	server = dsn
	return m.Run()
}

// Open gives a database with the current schema and no rows.
func Open(t testing.TB) *postgres.DB {
	t.Helper()
	return open(t, URL(t))
}

// URL gives the connection string of such a database.
func URL(t testing.TB) string {
	t.Helper()
	return create(t, current{})
}

// Empty gives the connection string of a database with nothing in it.
func Empty(t testing.TB) string {
	t.Helper()
	return create(t, pgtestdb.NoopMigrator{})
}

func open(t testing.TB, url string) *postgres.DB {
	t.Helper()
	db, err := postgres.Open(url, 8)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

func create(t testing.TB, migrator pgtestdb.Migrator) string {
	t.Helper()
	cfg, err := pgx.ParseConfig(server)
	if err != nil {
		t.Fatal(err)
	}
	made := pgtestdb.Custom(t, pgtestdb.Config{
		DriverName:                "pgx",
		User:                      cfg.User,
		Port:                      fmt.Sprint(cfg.Port),
		Database:                  cfg.Database,
		Options:                   url.Values{"host": {cfg.Host}}.Encode(), // a socket is no host of a URL
		ForceTerminateConnections: true,
	}, migrator)
	return made.URL()
}

// current migrates the template.
type current struct{}

func (current) Hash() (string, error) { return migrations.Fingerprint() }

func (current) Migrate(ctx context.Context, _ *sql.DB, cfg pgtestdb.Config) error {
	conn, err := pgx.Connect(ctx, cfg.URL())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return migrations.Apply(ctx, conn)
}
