package main

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
	"github.com/photo-processor/photo-processor/internal/exitcode"
)

// TestAuditCommand is not parallel, because it sets variables.
func TestAuditCommand(t *testing.T) {
	dsn, stop, err := devstacktest.Postgres(t.Context())
	require.NoError(t, err)
	defer stop()
	dir := t.TempDir() + "/thumbnails"
	t.Setenv("DATABASE_URL", dsn)
	t.Setenv("THUMBNAILS_BUCKET", "file://"+dir)
	code, _, stderr := runCommand(t.Context(), "migrate")
	require.Zero(t, code, stderr)

	const (
		first  = "00000000-0000-4000-8000-000000000001"
		second = "00000000-0000-4000-8000-000000000002"
		third  = "00000000-0000-4000-8000-000000000003"
		small  = "/100x67-0123456789abcdef-01234567.jpg"
		large  = "/320x213-0123456789abcdef-01234567.jpg"
	)
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	for _, id := range []string{first, second, third} {
		_, err := conn.Exec(t.Context(), `INSERT INTO photos (uuid, url, status) VALUES ($1, 'https://photos.example', 'completed')`, id)
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), `INSERT INTO photo_thumbnails (photo_uuid, url, width, height) VALUES ($1, $2, 100, 67), ($1, $3, 320, 213)`,
			id, id+small, id+large)
		require.NoError(t, err)
	}
	write := func(key, content string) {
		t.Helper()
		path := filepath.Join(dir, key)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
	}

	code, stdout, stderr := runCommand(t.Context(), "audit")
	require.Equal(t, exitcode.Unreachable, code)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "THUMBNAILS_BUCKET: ")
	require.NoDirExists(t, dir)

	const orphan = third + "/320x213-fedcba9876543210-76543210.jpg"
	write(second+small, "a thumbnail")
	write(second+large, "")
	write(third+small, "a thumbnail")
	write(third+large, "a thumbnail")
	write(orphan, "a thumbnail")
	write("notes.txt", "not a thumbnail")

	const young = `photos     3
rows       6
files      5
missing    2 (of 1 photo)
damaged    1 (of 1 photo)
orphaned   0
unsettled  1
foreign    1
`
	code, stdout, stderr = runCommand(t.Context(), "audit")
	require.Equal(t, exitcode.Failure, code)
	require.Equal(t, young, stdout)
	require.Empty(t, stderr)

	code, stdout, stderr = runCommand(t.Context(), "audit", "--photos")
	require.Equal(t, exitcode.Failure, code)
	require.Equal(t, first+"\n"+second+"\n", stdout)
	require.Equal(t, young, stderr)

	old := strings.NewReplacer("orphaned   0", "orphaned   1", "unsettled  1", "unsettled  0").Replace(young)
	code, stdout, stderr = runCommand(t.Context(), "audit", "--list", "--min-age", "0s")
	require.Equal(t, exitcode.Failure, code)
	require.Equal(t, "missing\t"+first+small+"\nmissing\t"+first+large+"\ndamaged\t"+second+large+"\norphaned\t"+orphan+"\n", stdout)
	require.Equal(t, old, stderr)

	code, stdout, stderr = runCommand(t.Context(), "audit", "--output", "json")
	require.Equal(t, exitcode.Failure, code)
	require.JSONEq(t, `{"photos":3,"rows":6,"files":5,"missing":2,"missing_photos":1,"damaged":1,"damaged_photos":1,
		"orphaned":0,"deleted":0,"unsettled":1,"foreign":1}`, stdout)
	require.Empty(t, stderr)

	code, stdout, stderr = runCommand(t.Context(), "audit", "--photos", "--output", "json")
	require.Equal(t, exitcode.Failure, code)
	require.Equal(t, `{"uuid":"`+first+"\"}\n"+`{"uuid":"`+second+"\"}\n", stdout)
	require.Equal(t, young, stderr)

	code, stdout, stderr = runCommand(t.Context(), "audit", "--list", "--min-age", "0s", "--output", "json")
	require.Equal(t, exitcode.Failure, code)
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	require.Len(t, lines, 4)
	require.JSONEq(t, `{"kind":"missing","photo_uuid":"`+first+`","key":"`+first+small+`"}`, lines[0])
	require.JSONEq(t, `{"kind":"orphaned","photo_uuid":"`+third+`","key":"`+orphan+`"}`, lines[3])
	require.Equal(t, old, stderr)

	for _, key := range []string{first + small, first + large, second + large} {
		write(key, "a thumbnail")
	}
	code, stdout, stderr = runCommand(t.Context(), "audit", "--prune", "--min-age", "0s")
	require.Equal(t, exitcode.OK, code, stderr)
	require.Equal(t, "photos     3\nrows       6\nfiles      7\nmissing    0\ndamaged    0\norphaned   1\ndeleted    1\nunsettled  0\nforeign    1\n", stdout)
	require.NoFileExists(t, filepath.Join(dir, orphan))
	files := 0
	require.NoError(t, filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if !entry.IsDir() {
			files++
		}
		return err
	}))
	require.Equal(t, 7, files)

	interrupted, interrupt := context.WithCancel(t.Context())
	interrupt()
	code, _, stderr = runCommand(interrupted, "audit")
	require.Equal(t, exitcode.Interrupted, code)
	require.Equal(t, "photo-processor: interrupted\n", stderr)

	_, err = conn.Exec(t.Context(), `DELETE FROM photo_thumbnails`)
	require.NoError(t, err)
	code, _, stderr = runCommand(t.Context(), "audit", "--prune", "--min-age", "0s")
	require.Equal(t, exitcode.Failure, code)
	require.Contains(t, stderr, "check DATABASE_URL")

	stop()
	code, stdout, stderr = runCommand(t.Context(), "audit")
	require.Equal(t, exitcode.Unreachable, code)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "PostgreSQL cannot be used")
}
