package activities_test

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/photo"
)

// TestADefectOfReconcilePage checks that the cause is in the log, and not in
// the history.
func TestADefectOfReconcilePage(t *testing.T) {
	b := setup(t)
	var log bytes.Buffer
	b.Log = slog.New(slog.NewTextHandler(&log, nil))
	b.DB.Close()
	_, err := b.env.ExecuteActivity(b.ReconcilePage, activities.ReconcilePageInput{Limit: 1})
	appErr := requireType(t, err, string(photo.Internal), true)
	require.NotContains(t, appErr.Message(), "closed pool")
	require.Contains(t, log.String(), "closed pool")
}
