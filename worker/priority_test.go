package worker_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
)

// addMany adds n photos whose source answers at once.
func (b *testBundle) addMany(t *testing.T, n int) []uuid.UUID {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b.content) }))
	t.Cleanup(server.Close)
	urls := make([]string, n)
	for i := range urls {
		urls[i] = server.URL
	}
	photos, err := b.db.AddPhotos(t.Context(), urls)
	require.NoError(t, err)
	ids := make([]uuid.UUID, n)
	for i, p := range photos {
		ids[i] = p.UUID
	}
	return ids
}

func (b *testBundle) completed(t *testing.T) []photo.Photo {
	t.Helper()
	photos, err := b.db.Photos(t.Context(), photo.Completed, postgres.Cursor{}, 1000)
	require.NoError(t, err)
	return photos
}

// TestASinglePhotoPassesABatch posts a single photo after a large batch, to a
// worker with two slots, and checks that it is completed before most of the
// batch.
func TestASinglePhotoPassesABatch(t *testing.T) {
	for name, start := range map[string]func(t *testing.T, b *testBundle, batch []uuid.UUID){
		"started by StartPhotos": func(t *testing.T, b *testBundle, batch []uuid.UUID) {
			_, err := b.starter().StartBatch(t.Context(), uuid.New(), batch)
			require.NoError(t, err)
		},
		"in the queue": func(t *testing.T, b *testBundle, batch []uuid.UUID) {
			for _, id := range batch {
				_, err := b.starter().StartBatchPhoto(t.Context(), id)
				require.NoError(t, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			close(b.release)
			b.cfg.WorkerPhotos = 2
			const many = 150
			start(t, b, b.addMany(t, many))
			single := b.addMany(t, 1)[0]
			b.work(t)
			var before int
			require.Eventually(t, func() bool {
				before = len(b.completed(t))
				return before >= 10
			}, time.Minute, 10*time.Millisecond)

			photoRun, err := b.starter().StartPhoto(t.Context(), single)
			require.NoError(t, err)
			require.NoError(t, photoRun.Get(t.Context(), nil))
			// b.photo is completed, too.
			passed := many + 2 - len(b.completed(t))
			t.Logf("%d were completed before it, %d meanwhile, %d after it", before, many+2-before-passed, passed)
			require.Less(t, many+2-before-passed, 20, "few were in progress already")
			require.Greater(t, passed, 50, "too few were left to show anything")
		})
	}
}
