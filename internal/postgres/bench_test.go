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

// The test server does not sync its disk, so the benchmarks measure the
// statements and their round trips.

// BenchmarkRun executes all SQL of one photo's run.
func BenchmarkRun(b *testing.B) {
	db, newRun := benchRun(b)
	for i := 0; b.Loop(); i++ {
		run := newRun(i)
		require.NoError(b, mark(b, db, run))
		_, err := db.SourceURL(b.Context(), run)
		require.NoError(b, err)
		require.NoError(b, db.PublishThumbnails(b.Context(), run, aSource, []photo.Thumbnail{thumbnail(320, 213, "a")}, aPlaceholder))
		require.NoError(b, finish(b, db, run, nil))
	}
}

// BenchmarkMarkProcessing acquires the photo by a newer run each time.
func BenchmarkMarkProcessing(b *testing.B) {
	db, run := benchRun(b)
	for i := 0; b.Loop(); i++ {
		require.NoError(b, mark(b, db, run(i)))
	}
}

// BenchmarkFinish finishes a newer run each time. MarkProcessing is not
// measured.
func BenchmarkFinish(b *testing.B) {
	db, run := benchRun(b)
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		require.NoError(b, mark(b, db, run(i)))
		b.StartTimer()
		require.NoError(b, finish(b, db, run(i), nil))
	}
}

// benchRun returns a database with one photo, and a function that returns the
// photo's i-th run, each newer than the one before.
func benchRun(b *testing.B) (*postgres.DB, func(i int) photo.Run) {
	b.Helper()
	db := postgrestest.Open(b)
	added, err := db.AddPhotos(b.Context(), []string{"https://photos.example/1.jpg"})
	require.NoError(b, err)
	start := time.Now()
	return db, func(i int) photo.Run {
		return photo.Run{Photo: added[0].UUID, ID: fmt.Sprint(i), StartedAt: start.Add(time.Duration(i) * time.Millisecond)}
	}
}

// BenchmarkPhotos lists a page of 100 of 10,000 photos, at the start and in the
// middle of the list. Both must take the same time.
func BenchmarkPhotos(b *testing.B) {
	const photos, page = 10_000, 100
	db := postgrestest.Open(b)
	urls := make([]string, photos)
	for i := range urls {
		urls[i] = fmt.Sprintf("https://photos.example/%d.jpg", i)
	}
	added, err := db.AddPhotos(b.Context(), urls)
	require.NoError(b, err)
	middle := added[photos/2]
	for _, c := range []struct {
		name  string
		after postgres.Cursor
	}{{"first", postgres.Cursor{}}, {"middle", postgres.Cursor{CreatedAt: middle.CreatedAt, UUID: middle.UUID}}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				listed, err := db.Photos(b.Context(), photo.Pending, c.after, page)
				require.NoError(b, err)
				require.Len(b, listed, page)
			}
		})
	}
}
