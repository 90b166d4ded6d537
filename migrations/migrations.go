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
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5"
)

//go:embed *.sql
var files embed.FS

// versionTable has the number of the last applied migration.
const versionTable = "public.schema_version"

// lockKey is the key of the advisory lock that a migration's transaction takes.
// Releases that migrated with the library tern use the same key.
const lockKey = 9628173550095224

// migration is one SQL file. The first one brings the schema to version 1.
type migration struct{ name, sql string }

// Apply applies the missing migrations. Processes may call it concurrently: an
// advisory lock makes them take turns. The lock ends with the transaction of a
// migration, because a pooler may give each transaction another session. Apply
// leaves a schema alone that is newer than this version's, and logs a warning.
func Apply(ctx context.Context, conn *pgx.Conn) error {
	all, err := readMigrations()
	if err != nil {
		return err
	}
	newest := len(all)
	for {
		version, err := applyNext(ctx, conn, all)
		switch {
		case err != nil:
			return fmt.Errorf("migrate the schema from version %d: %w", version, err)
		case version > newest:
			slog.WarnContext(ctx, "the schema is newer than this version of photo-processor; it is used as it is", "schema", version, "known", newest)
			return nil
		case version == newest:
			return nil
		}
	}
}

// applyNext applies the first missing migration, if any, and returns the
// version that the schema had before. A transaction has only one migration,
// because a value that one adds to an enum can be used only after its commit.
func applyNext(ctx context.Context, conn *pgx.Conn, all []migration) (version int, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, fmt.Sprintf(`SELECT pg_advisory_xact_lock(%d)`, lockKey)); err != nil {
			return err
		}
		if version, err = readVersion(ctx, tx); err != nil {
			return fmt.Errorf("read the schema version: %w", err)
		}
		if version >= len(all) {
			return nil
		}
		next := all[version]
		if _, err := tx.Exec(ctx, next.sql); err != nil {
			return fmt.Errorf("%s: %w", next.name, err)
		}
		_, err := tx.Exec(ctx, fmt.Sprintf(`UPDATE %s SET version = %d`, versionTable, version+1))
		return err
	})
	return version, err
}

// readVersion returns the number of the last applied migration. It creates the
// table of the version if it is missing, for which the role needs the
// privilege to create tables.
func readVersion(ctx context.Context, tx pgx.Tx) (version int, err error) {
	var exists bool
	if err := tx.QueryRow(ctx, `SELECT to_regclass('`+versionTable+`') IS NOT NULL`).Scan(&exists); err != nil {
		return 0, err
	}
	if !exists {
		_, err := tx.Exec(ctx, `CREATE TABLE `+versionTable+` (version int4 NOT NULL); INSERT INTO `+versionTable+` VALUES (0)`)
		return 0, err
	}
	err = tx.QueryRow(ctx, `SELECT version FROM `+versionTable).Scan(&version)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, errors.New(versionTable + " is empty")
	}
	return version, err
}

// Reset drops all tables and types of the schema, with all rows, and applies
// all migrations again. It is for development only.
func Reset(ctx context.Context, conn *pgx.Conn) error {
	const drop = `DROP TABLE IF EXISTS batch_photos, batches, photo_thumbnails, photos, ` + versionTable + `; DROP TYPE IF EXISTS photo_status`
	if _, err := conn.Exec(ctx, drop); err != nil {
		return fmt.Errorf("drop the schema: %w", err)
	}
	// This connection's statements and descriptions refer to the dropped types.
	if err := conn.DeallocateAll(ctx); err != nil {
		return err
	}
	return Apply(ctx, conn)
}

// Fingerprint returns a text that identifies the set of migrations. Tests use
// it to share one migrated template database.
func Fingerprint() (string, error) {
	all, err := readMigrations()
	if err != nil {
		return "", err
	}
	var names []string
	for _, m := range all {
		names = append(names, m.name)
	}
	return strings.Join(names, ","), nil
}

// readMigrations returns the migrations in the order of their numbers, which
// their names begin with.
func readMigrations() (all []migration, err error) {
	entries, err := files.ReadDir(".") // sorted by name
	if err != nil {
		return nil, err
	}
	for i, entry := range entries {
		if number := fmt.Sprintf("%04d_", i+1); !strings.HasPrefix(entry.Name(), number) {
			return nil, fmt.Errorf("the migration %s does not have the number %s", entry.Name(), number[:4])
		}
		sql, err := files.ReadFile(entry.Name())
		if err != nil {
			return nil, err
		}
		all = append(all, migration{entry.Name(), string(sql)})
	}
	return all, nil
}
