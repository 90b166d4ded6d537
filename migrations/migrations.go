// Package migrations brings a PostgreSQL database to the schema that this
// version of photo-processor works with: an empty database, one that an older
// version made, or one that the project's first schema made.
//
// Each file is one migration, applied in its own transaction, never changed
// once released. There are no down migrations: a newer schema stays readable
// to the previous version, so that a release can be rolled back without one.
package migrations

import (
	"context"
	"embed"
	"fmt"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/tern/v2/migrate"
)

//go:embed *.sql
var files embed.FS

// versionTable holds the number of the newest migration that was applied.
const versionTable = "public.schema_version"

// Apply applies what is missing. Any number of processes may call it at once:
// an advisory lock lets one of them work while the others wait. A schema that
// is newer than this version knows is left alone.
func Apply(ctx context.Context, conn *pgx.Conn) error {
	m, err := migrator(ctx, conn)
	if err != nil {
		return err
	}
	version, err := m.GetCurrentVersion(ctx)
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	if newest := int32(len(m.Migrations)); version > newest {
		slog.WarnContext(ctx, "the schema is newer than this version of photo-processor", "schema", version, "known", newest)
		return nil
	}
	if err := m.Migrate(ctx); err != nil {
		return fmt.Errorf("migrate from version %d: %w", version, err)
	}
	return nil
}

// Reset drops everything that the migrations made, with all rows, and applies
// them anew. It is for development alone.
func Reset(ctx context.Context, conn *pgx.Conn) error {
	const drop = `DROP TABLE IF EXISTS photo_thumbnails, photos, ` + versionTable + `; DROP TYPE IF EXISTS photo_status`
	if _, err := conn.Exec(ctx, drop); err != nil {
		return fmt.Errorf("drop the schema: %w", err)
	}
	// The types of the dropped schema must not outlive it in this connection.
	if err := conn.DeallocateAll(ctx); err != nil {
		return err
	}
	return Apply(ctx, conn)
}

// Fingerprint changes whenever a migration is added.
func Fingerprint() (string, error) {
	entries, err := files.ReadDir(".")
	if err != nil {
		return "", err
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, ","), nil
}

func migrator(ctx context.Context, conn *pgx.Conn) (*migrate.Migrator, error) {
	m, err := migrate.NewMigrator(ctx, conn, versionTable)
	if err != nil {
		return nil, fmt.Errorf("prepare %s: %w", versionTable, err)
	}
	if err := m.LoadMigrations(files); err != nil {
		return nil, fmt.Errorf("load migrations: %w", err)
	}
	return m, nil
}
