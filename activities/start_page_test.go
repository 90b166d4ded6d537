package activities_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"

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
	b.StartBatchPhoto = func(_ context.Context, id uuid.UUID) error {
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		runtime.Gosched()
		mu.Lock()
		defer mu.Unlock()
		now--
		if len(started) == 20 {
			return errors.New("unavailable")
		}
		started = append(started, id)
		return nil
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
