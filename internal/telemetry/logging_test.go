package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/log"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/telemetry"
)

// logged parses the only line that was written.
func logged(t *testing.T, write func(*slog.Logger)) (line map[string]any) {
	t.Helper()
	var out bytes.Buffer
	write(telemetry.NewLogger(&out, slog.LevelInfo, true))
	require.Equal(t, 1, strings.Count(out.String(), "\n"), out.String())
	require.NoError(t, json.Unmarshal(out.Bytes(), &line))
	for name := range line { // a JSON parser accepts duplicates
		require.Equal(t, 1, strings.Count(out.String(), fmt.Sprintf("%q:", name)), "%s", out.String())
	}
	return line
}

func TestLinesOfTemporalHaveOurNames(t *testing.T) {
	t.Parallel()
	id := uuid.New()
	for name, write := range map[string]func(log.Logger){
		"given beforehand": func(l log.Logger) {
			log.With(l, "WorkflowID", photo.WorkflowID(id), "RunID", "run", "Attempt", 3).Warn("Activity error.")
		},
		"given with the line": func(l log.Logger) {
			l.Warn("Activity error.", "WorkflowID", photo.WorkflowID(id), "RunID", "run", "Attempt", 3)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			line := logged(t, func(l *slog.Logger) { write(log.NewStructuredLogger(l)) })
			delete(line, "time")
			require.Equal(t, map[string]any{
				"level": "WARN", "msg": "Activity error.", "photo": id.String(), "workflow_id": photo.WorkflowID(id), "run_id": "run", "activity_attempt": 3.,
			}, line)
		})
	}
	line := logged(t, func(l *slog.Logger) { l.Info("of no photo", "WorkflowID", "photo-processor-reconciler") })
	require.Equal(t, "photo-processor-reconciler", line["workflow_id"])
	require.NotContains(t, line, "photo")
}

func TestLinesHaveWhatTheContextSays(t *testing.T) {
	t.Parallel()
	id := uuid.New()
	ctx := telemetry.WithAttrs(t.Context(), telemetry.PhotoAttrs(id, "run")...)
	first := telemetry.WithAttrs(ctx, slog.Int("attempt", 1))
	second := telemetry.WithAttrs(ctx, slog.Int("attempt", 2)) // beside the first
	for attempt, ctx := range map[float64]context.Context{1: first, 2: second} {
		line := logged(t, func(l *slog.Logger) { l.With("a", 1).InfoContext(ctx, "message", "b", 2) })
		delete(line, "time")
		require.Equal(t, map[string]any{
			"level": "INFO", "msg": "message", "a": 1., "b": 2., "photo": id.String(), "workflow_id": photo.WorkflowID(id), "run_id": "run", "attempt": attempt,
		}, line)
	}
	line := logged(t, func(l *slog.Logger) { l.With("a", 1).WithGroup("g").Info("message", "b", 2) })
	require.Equal(t, 1., line["a"])
	require.Equal(t, map[string]any{"b": 2.}, line["g"])
}

// TestEveryLineAboutAPhotoHasItsIDs processes a photo that fails at its second
// attempt.
func TestEveryLineAboutAPhotoHasItsIDs(t *testing.T) {
	b := setup(t, nil)
	shown := b.process(t, b.source+"/flaky", nil)
	require.Equal(t, photo.Failed, shown.Status)
	run := b.logs.lines(t, "photo failed")[0]["run_id"]
	require.NotEmpty(t, run)

	attempts := []any{}
	for _, line := range b.logs.lines(t, "the attempt failed") {
		attempts = append(attempts, line["attempt"])
	}
	require.Equal(t, []any{1., 2.}, attempts, "the workflow's, of which Temporal knows nothing")

	b.stop()
	seen := map[any]bool{}
	for _, line := range b.logs.lines(t, "") {
		if !strings.Contains(fmt.Sprint(line), shown.UUID.String()) {
			continue
		}
		require.Equal(t, shown.UUID.String(), line["photo"], "%v", line)
		require.Equal(t, shown.WorkflowID, line["workflow_id"], "%v", line)
		if line["msg"] == "request" && line["run_id"] == nil {
			continue // requested before the run had started
		}
		require.Equal(t, run, line["run_id"], "%v", line)
		seen[line["msg"]] = true
	}
	for _, message := range []string{"photo is being processed", "the attempt failed", "photo failed", "request"} {
		require.True(t, seen[message], "no line %q", message)
	}
}
