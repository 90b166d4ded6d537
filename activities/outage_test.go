package activities_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/postgres"
)

func TestOutages(t *testing.T) {
	t.Run("PostgreSQL", func(t *testing.T) {
		b := setup(t)
		db, err := postgres.Open("postgres://photos@127.0.0.1:1/photos", 1)
		require.NoError(t, err)
		t.Cleanup(db.Close)
		b.DB = db
		_, err = b.env.ExecuteActivity(b.MarkProcessing, activities.MarkProcessingInput{StepInput: step(b.run)})
		requireType(t, err, activities.DatabaseUnavailable, true)
		_, err = b.fetch(b.run)
		requireType(t, err, activities.DatabaseUnavailable, true)
		_, err = b.make(b.run)
		requireType(t, err, activities.DatabaseUnavailable, true)
		requireType(t, b.finish(b.run, nil), activities.DatabaseUnavailable, true)
	})
	t.Run("the disk for sources", func(t *testing.T) {
		b := setup(t)
		b.mark(t, b.run)
		b.breakDirectory(t, "sources")
		_, err := b.fetch(b.run)
		requireType(t, err, activities.StorageUnavailable, true)
	})
	t.Run("thumbnails bucket", func(t *testing.T) {
		b := setup(t)
		b.mark(t, b.run)
		b.breakDirectory(t, "thumbnails")
		_, err := b.make(b.run)
		requireType(t, err, activities.StorageUnavailable, true)
		require.Empty(t, b.get(t).Thumbnails)
	})
}

// breakDirectory replaces the directory by a file, which makes it unusable for
// root, too.
func (b *testBundle) breakDirectory(t *testing.T, name string) {
	t.Helper()
	dir := filepath.Join(b.dir, name)
	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, os.WriteFile(dir, nil, 0o600))
}
