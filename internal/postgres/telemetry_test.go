package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/postgres/postgrestest"
)

func TestBacklog(t *testing.T) {
	t.Parallel()
	db := postgrestest.Open(t)
	b, err := db.Backlog(t.Context())
	require.NoError(t, err)
	require.Equal(t, postgres.Backlog{}, b)

	added, err := db.AddPhotos(t.Context(), []string{"https://photos.example/1.jpg", "https://photos.example/2.jpg", "https://photos.example/3.jpg", "https://photos.example/4.jpg"})
	require.NoError(t, err)
	for i, ago := range []time.Duration{time.Minute, time.Hour, 2 * time.Hour} {
		run := photo.Run{Photo: added[i].UUID, ID: "run", StartedAt: time.Now().Add(-ago)}
		require.NoError(t, mark(t, db, run))
		if i == 2 { // the oldest run has finished
			require.NoError(t, finish(t, db, run, nil))
		}
	}
	b, err = db.Backlog(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, b.Pending)
	require.Positive(t, b.PendingFor)
	require.Less(t, b.PendingFor, time.Minute)
	require.Equal(t, 2, b.Processing)
	require.InDelta(t, time.Hour.Seconds(), b.ProcessingFor.Seconds(), 60)
}

func TestBacklogStopsAtItsLimit(t *testing.T) {
	t.Parallel()
	db := postgrestest.Open(t)
	urls := make([]string, 10_003)
	for i := range urls {
		urls[i] = fmt.Sprintf("https://photos.example/%d.jpg", i)
	}
	_, err := db.AddPhotos(t.Context(), urls)
	require.NoError(t, err)
	b, err := db.Backlog(t.Context())
	require.NoError(t, err)
	require.Equal(t, 10_000, b.Pending)
}
