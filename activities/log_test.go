package activities_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"log/slog"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/telemetry"
)

// logTo makes the activities log to the buffer.
func (b *testBundle) logTo(log *bytes.Buffer) {
	b.Log = telemetry.NewLogger(log, slog.LevelInfo, false)
}

func TestAnOutageIsOneLine(t *testing.T) {
	b := setup(t)
	var log bytes.Buffer
	b.logTo(&log)
	b.Outages = new(telemetry.OutageLines)
	db, err := postgres.Open("postgres://photos@127.0.0.1:1/photos", 1)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	b.DB = db
	for range 3 {
		b.run.Photo = uuid.New()
		_, err = b.env.ExecuteActivity(b.MarkProcessing, activities.MarkProcessingInput{StepInput: step(b.run)})
		requireType(t, err, activities.DatabaseUnavailable, true)
	}
	require.Equal(t, 1, strings.Count(log.String(), "\n"), log.String())
	require.Contains(t, log.String(), "level=WARN")
	require.Contains(t, log.String(), "code=database_unavailable")
	require.Contains(t, log.String(), "127.0.0.1:1", "the cause")
}

// TestATakeoverIsLogged has a worker that was lost after MarkProcessing, in the
// first workflow task, and one that was lost with a regular activity.
func TestATakeoverIsLogged(t *testing.T) {
	const takeover = "the photo is taken over from a lost worker"
	t.Run("in the first workflow task", func(t *testing.T) {
		b := setup(t)
		var log bytes.Buffer
		b.logTo(&log)
		_, err := b.DB.MarkProcessing(t.Context(), b.run)
		require.NoError(t, err)
		_, err = b.env.ExecuteLocalActivity(b.MarkProcessing, activities.MarkProcessingInput{StepInput: step(b.run)})
		require.NoError(t, err)
		require.Contains(t, log.String(), takeover)
		require.Contains(t, log.String(), "photo="+b.photo.String())

		log.Reset()
		_, err = b.env.ExecuteLocalActivity(b.MarkProcessing, activities.MarkProcessingInput{StepInput: step(b.nextRun())})
		require.NoError(t, err)
		require.Empty(t, log.String(), "the next run is no takeover")
	})
}
