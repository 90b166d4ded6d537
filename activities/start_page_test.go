package activities_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/photo"
)

// TestStartPage lets an attempt fail half-way; the next continues from its
// heartbeat.
func TestStartPage(t *testing.T) {
	b := setup(t)
	ids := make(photo.IDs, 50)
	for i := range ids {
		ids[i] = uuid.New()
	}
	var mu sync.Mutex
	var now, most int
	var started []uuid.UUID
	b.StartConcurrency = 3
	b.StartBatchPhoto = func(_ context.Context, id uuid.UUID) (string, error) {
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		runtime.Gosched()
		mu.Lock()
		defer mu.Unlock()
		now--
		if len(started) == 20 {
			return "", errors.New("unavailable")
		}
		started = append(started, id)
		return "run", nil
	}
	var progress activities.StartPageProgress
	b.env.SetOnActivityHeartbeatListener(func(_ *activity.Info, details converter.EncodedValues) {
		require.NoError(t, details.Get(&progress))
	})
	_, err := b.env.ExecuteActivity(b.StartPage, activities.StartPageInput{Photos: ids})
	require.ErrorContains(t, err, "unavailable")
	require.EqualValues(t, 18, progress.Started, "of the last three, one failed")
	require.LessOrEqual(t, most, 3)

	started = nil
	b.env.SetHeartbeatDetails(progress)
	_, err = b.env.ExecuteActivity(b.StartPage, activities.StartPageInput{Photos: ids[:37]})
	require.NoError(t, err)
	require.ElementsMatch(t, ids[18:37], started)

	started = nil
	b.env.SetHeartbeatDetails("of another version")
	_, err = b.env.ExecuteActivity(b.StartPage, activities.StartPageInput{Photos: ids[:7]})
	require.NoError(t, err)
	require.ElementsMatch(t, ids[:7], started)
}

// TestStartPageJoinsRunsThatAreOpen starts a photo whose workflow has finished,
// and one whose workflow is open: the outcome of the latter counts for the batch.
func TestStartPageJoinsRunsThatAreOpen(t *testing.T) {
	b := setup(t)
	photos, err := b.DB.AddPhotos(t.Context(), []string{"https://photos.example/1.jpg", "https://photos.example/2.jpg"})
	require.NoError(t, err)
	batch, ids := uuid.New(), make(photo.IDs, len(photos))
	open := map[uuid.UUID]string{}
	for i, p := range photos {
		run := photo.Run{Photo: p.UUID, ID: uuid.NewString(), StartedAt: time.Now()}
		_, _, err := b.DB.Finish(t.Context(), run, nil)
		require.NoError(t, err)
		ids[i], open[p.UUID] = p.UUID, run.ID
	}
	open[ids[0]] = "a new run"
	b.StartConcurrency = 2
	b.StartBatchPhoto = func(_ context.Context, id uuid.UUID) (string, error) { return open[id], nil }
	_, err = b.env.ExecuteActivity(b.CreateBatch, activities.CreateBatchInput{Batch: batch, Photos: ids})
	require.NoError(t, err)
	_, err = b.env.ExecuteActivity(b.StartPage, activities.StartPageInput{Batch: batch, Photos: ids})
	require.NoError(t, err)
	_, err = b.env.ExecuteActivity(b.EndBatch, activities.EndBatchInput{Batch: batch})
	require.NoError(t, err)
	got, err := b.DB.Batch(t.Context(), batch)
	require.NoError(t, err)
	require.Equal(t, 1, got.Pending)
	require.Equal(t, 1, got.Completed)
}

// TestSelectPageCreatesTheBatch checks the case that the API could not.
func TestSelectPageCreatesTheBatch(t *testing.T) {
	b := setup(t)
	photos, err := b.DB.AddPhotos(t.Context(), []string{"https://photos.example/1.jpg"})
	require.NoError(t, err)
	in := activities.SelectPageInput{Batch: uuid.New(), Query: "status=pending", Selection: photo.Selection{Status: photo.Pending}, Limit: 10}
	for range 2 {
		value, err := b.env.ExecuteActivity(b.SelectPage, in)
		require.NoError(t, err)
		var page activities.SelectPageResult
		require.NoError(t, value.Get(&page))
		require.Contains(t, page.Photos, photos[0].UUID)
	}
	got, err := b.DB.Batch(t.Context(), in.Batch)
	require.NoError(t, err)
	require.Equal(t, "status=pending", got.Query)
	require.Equal(t, 2, got.Total(), "and the photo of setup")
}
