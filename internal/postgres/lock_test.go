package postgres_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
)

func TestWithPhotoLockedBlocksRuns(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, mark(t, b.db, b.older))
	require.NoError(t, b.db.PublishThumbnails(t.Context(), b.older, aSource, []photo.Thumbnail{thumbnail(1, 1, "a")}))
	marked := make(chan error, 1)
	err := b.db.WithPhotoLocked(t.Context(), b.photo, func(held postgres.LockedPhoto) error {
		require.Equal(t, postgres.LockedPhoto{Status: photo.Processing, Keys: []string{"a"}}, held)
		go func() { marked <- mark(t, b.db, b.newer) }()
		// Wait until PostgreSQL shows that MarkProcessing waits for the lock.
		require.Eventually(t, func() bool { return isWaitingForLock(t, b.db) }, 10*time.Second, 10*time.Millisecond)
		require.Equal(t, "older", b.get(t).RunID)
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, <-marked)
	require.Equal(t, "newer", b.get(t).RunID)
}

func isWaitingForLock(t *testing.T, db *postgres.DB) bool {
	t.Helper()
	var n int
	require.NoError(t, db.QueryRowForTest(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&n))
	return n > 0
}
