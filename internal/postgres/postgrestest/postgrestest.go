// Package postgrestest creates PostgreSQL databases for tests. The tests of a
// package share one server, and each test has its own database: a clone of a
// template that is migrated once.
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

// Main runs the tests with a PostgreSQL server, and returns the exit code. Call
// it in TestMain.
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

// Server returns the connection string of the server's superuser, for tests that
// need more than a database of their own.
func Server() string { return server }

// Open creates a database with the current schema and no rows, and opens it
// with a pool of 8 connections.
func Open(t testing.TB) *postgres.DB {
	t.Helper()
	db, err := postgres.Open(URL(t), 8)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// URL creates a database with the current schema and no rows, and returns its
// connection string.
func URL(t testing.TB) string {
	t.Helper()
	return create(t, migrator{})
}

// Empty creates a database without a schema, and returns its connection string.
func Empty(t testing.TB) string {
	t.Helper()
	return create(t, pgtestdb.NoopMigrator{})
}

func create(t testing.TB, template pgtestdb.Migrator) string {
	t.Helper()
	cfg, err := pgx.ParseConfig(server)
	if err != nil {
		t.Fatal(err)
	}
	database := pgtestdb.Custom(t, pgtestdb.Config{
		DriverName:                "pgx",
		User:                      cfg.User,
		Port:                      fmt.Sprint(cfg.Port),
		Database:                  cfg.Database,
		Options:                   url.Values{"host": {cfg.Host}}.Encode(), // Host is a socket's directory, which cannot be the host of a URL
		ForceTerminateConnections: true,
	}, template)
	return database.URL()
}

// migrator applies the migrations to the template database.
type migrator struct{}

// Hash identifies the template: a new migration makes a new template.
func (migrator) Hash() (string, error) { return migrations.Fingerprint() }

// Migrate applies all migrations.
func (migrator) Migrate(ctx context.Context, _ *sql.DB, cfg pgtestdb.Config) error {
	conn, err := pgx.Connect(ctx, cfg.URL())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return migrations.Apply(ctx, conn)
}
