package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
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

func TestNormalLinesOfTheSDKAreOmitted(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := log.NewStructuredLogger(telemetry.NewLogger(&out, slog.LevelInfo, true))
	l.Error("Activity error.", "Error", context.Canceled)
	l.Error("Activity task preprocess error: context canceled")
	l.Warn("[TMPRL1104] run:4:1 Workflow task duration exceeded 5 seconds.", "WorkflowTaskDuration", 7*time.Second)
	require.Empty(t, out.String())
	l.Error("Activity error.", "Error", context.DeadlineExceeded)
	require.Contains(t, out.String(), "ERROR")
}

func TestOutageLines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var lines telemetry.OutageLines
		logged := map[string]int{}
		for range 3 * 60 {
			for _, cause := range []string{"postgresql", "bucket"} {
				lines.Do(cause, func() { logged[cause]++ })
			}
			time.Sleep(time.Second)
		}
		require.Equal(t, map[string]int{"postgresql": 3, "bucket": 3}, logged, "one a minute")
	})
	var none *telemetry.OutageLines
	logged := 0
	for range 3 {
		none.Do("postgresql", func() { logged++ })
	}
	require.Equal(t, 3, logged)
}

func TestDurationsHaveAUnit(t *testing.T) {
	t.Parallel()
	const d = 1240 * time.Millisecond
	line := logged(t, func(l *slog.Logger) {
		l.With("before", d).Info("message", "duration", d, slog.Group("g", "inner", d))
	})
	require.Equal(t, []any{"1.24s", "1.24s", map[string]any{"inner": "1.24s"}}, []any{line["before"], line["duration"], line["g"]})
	var text bytes.Buffer
	telemetry.NewLogger(&text, slog.LevelInfo, false).Info("message", "duration", d)
	require.Contains(t, text.String(), " duration=1.24s\n")
}

// TestAFailureIsLoggedOnce counts the lines about photos that are completed,
// fail, are retried, and meet a defect: one for each attempt that is retried or
// has details for the log only, and one for the final status.
func TestAFailureIsLoggedOnce(t *testing.T) {
	b := setup(t, nil)
	database, err := pgx.Connect(t.Context(), b.worker.DatabaseURL)
	require.NoError(t, err)
	defer database.Close(t.Context())
	withSecrets := strings.Replace(b.source, "http://", "http://alice:hunter2@", 1)
	for _, test := range []struct {
		name, path, defect string
		attempts           []any // codes
		final              string
	}{
		{"completed", "/photo.jpg", "", nil, "photo completed"},
		{"failed", "/forbidden", "", nil, "photo failed"}, // the attempt's line would add nothing
		{"retried", "/flaky", "", []any{"source_unavailable"}, "photo failed"},
		{"a defect", "/photo.jpg", `ALTER TABLE photo_thumbnails ADD CONSTRAINT defect CHECK (width < 0) NOT VALID`, []any{"internal", "internal", "internal"}, "photo failed"},
	} {
		_, err := database.Exec(t.Context(), test.defect)
		require.NoError(t, err)
		shown := b.process(t, withSecrets+test.path+"?token=swordfish", nil)
		b.logs.await(t, test.final, shown.UUID)
		var attempts []any
		var final []map[string]any
		for _, line := range b.logs.lines(t, "") {
			if line["photo"] != shown.UUID.String() || line["level"] == "DEBUG" || line["msg"] == "request" {
				continue
			}
			require.NotRegexp(t, "alice|hunter2|swordfish|[.]jpg", fmt.Sprint(line))
			switch line["msg"] {
			case "the attempt failed":
				attempts = append(attempts, line["code"])
				require.Equal(t, line["code"] == "internal", line["level"] == "ERROR")
			case test.final:
				final = append(final, line)
			default:
				require.Fail(t, "unexpected line", "%s: %v", test.name, line)
			}
		}
		require.Equal(t, test.attempts, attempts, test.name)
		require.Len(t, final, 1, test.name)
		require.Equal(t, "127.0.0.1", final[0]["source_host"])
		require.Equal(t, 1., final[0]["attempt"])
		require.NotEmpty(t, final[0]["run_id"])
		duration, err := time.ParseDuration(final[0]["duration"].(string))
		require.NoError(t, err)
		require.Positive(t, duration)
		if shown.Failure != nil {
			require.Equal(t, []any{string(shown.Failure.Code), shown.Failure.Message}, []any{final[0]["code"], final[0]["message"]})
		}
	}
}

// TestEveryLineAboutAPhotoHasItsIDs processes a photo that fails at its second
// attempt.
func TestEveryLineAboutAPhotoHasItsIDs(t *testing.T) {
	b := setup(t, nil)
	shown := b.process(t, b.source+"/flaky", nil)
	require.Equal(t, photo.Failed, shown.Status)
	run := b.logs.await(t, "photo failed", shown.UUID)["run_id"]
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
