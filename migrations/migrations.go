// Package migrations brings a PostgreSQL database to the schema of this version
// of photo-processor. The database may be empty, have the schema of an older
// version, or have the project's first schema, which had no version.
//
// Each SQL file is one migration, is applied in one transaction, and is never
// changed after its release. There are no down migrations: the previous version
// can use the newer schema, so that a release can be rolled back without one.
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

// versionTable has the number of the last applied migration.
const versionTable = "public.schema_version"

// Apply applies the missing migrations. Processes may call it concurrently: an
// advisory lock makes them take turns. It leaves a schema alone that is newer
// than this version's, and logs a warning.
func Apply(ctx context.Context, conn *pgx.Conn) error {
	m, err := newMigrator(ctx, conn)
	if err != nil {
		return err
	}
	version, err := m.GetCurrentVersion(ctx)
	if err != nil {
		return fmt.Errorf("read the schema version: %w", err)
	}
	if newest := int32(len(m.Migrations)); version > newest {
		slog.WarnContext(ctx, "the schema is newer than this version of photo-processor; it is used as it is", "schema", version, "known", newest)
		return nil
	}
	if err := m.Migrate(ctx); err != nil {
		return fmt.Errorf("migrate the schema from version %d: %w", version, err)
	}
	return nil
}

// Reset drops all tables and types of the schema, with all rows, and applies
// all migrations again. It is for development only.
func Reset(ctx context.Context, conn *pgx.Conn) error {
	const drop = `DROP TABLE IF EXISTS photo_thumbnails, photos, ` + versionTable + `; DROP TYPE IF EXISTS photo_status`
	if _, err := conn.Exec(ctx, drop); err != nil {
		return fmt.Errorf("drop the schema: %w", err)
	}
	// Prepared statements of this connection refer to the dropped types.
	if err := conn.DeallocateAll(ctx); err != nil {
		return err
	}
	return Apply(ctx, conn)
}

// Fingerprint returns a text that identifies the set of migrations. Tests use
// it to share one migrated template database.
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

func newMigrator(ctx context.Context, conn *pgx.Conn) (*migrate.Migrator, error) {
	m, err := migrate.NewMigrator(ctx, conn, versionTable)
	if err != nil {
		return nil, fmt.Errorf("prepare %s: %w", versionTable, err)
	}
	if err := m.LoadMigrations(files); err != nil {
		return nil, fmt.Errorf("load migrations: %w", err)
	}
	return m, nil
}
