package chaos_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/jpeg"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	temporalclient "go.temporal.io/sdk/client"
)

// TestAuditorSees plants one violation after the other in the result of a batch
// without faults. The auditor must report each.
func TestAuditorSees(t *testing.T) {
	t.Parallel()
	b := process(t, calm())
	a := b.auditor
	audit := func(t *testing.T) string {
		t.Helper()
		violations, err := a.audit(t.Context())
		require.NoError(t, err)
		return strings.Join(violations, "\n")
	}
	require.Empty(t, audit(t), "nothing is wrong yet")
	// The reconciler must not repair anything, and there is nothing to wait for.
	a.closeTime = 0
	for _, worker := range workers {
		(&faultInjector{stack: b.stack}).kill(worker, time.Hour)
	}

	// One photo of each final state.
	rows, err := a.rows(t.Context())
	require.NoError(t, err)
	var completed, failed, pending uuid.UUID
	stranger := uuid.New()
	for id, want := range a.photos {
		switch {
		case !want.row: // no photo
		case !want.accepted:
			pending = id
		case want.fails != "":
			failed = id
		default:
			completed = id
		}
	}
	var batch uuid.UUID
	for path := range a.locations {
		batch = uuid.MustParse(strings.TrimPrefix(path, "/batches/"))
	}
	thumb := rows[completed].thumbs[0]
	file := filepath.Join(b.bucket, thumb.key)
	content, err := os.ReadFile(file)
	require.NoError(t, err)

	execute := func(t *testing.T, sql string, args ...any) {
		t.Helper()
		tag, err := a.db.Exec(t.Context(), sql, args...)
		require.NoError(t, err)
		require.EqualValues(t, 1, tag.RowsAffected(), sql)
	}
	// Each plant returns its undo function.
	write := func(path string, content []byte) func(t *testing.T) (undo func()) {
		return func(t *testing.T) func() {
			before, err := os.ReadFile(path)
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
			require.NoError(t, os.WriteFile(path, content, 0o600))
			return func() {
				if err != nil { // there was no file
					require.NoError(t, os.Remove(path))
					return
				}
				require.NoError(t, os.WriteFile(path, before, 0o600))
			}
		}
	}
	change := func(do, undo string, id uuid.UUID) func(t *testing.T) func() {
		return func(t *testing.T) func() {
			execute(t, do, id)
			return func() { execute(t, undo, id) }
		}
	}
	expect := func(id uuid.UUID, differently func(*expected)) func(t *testing.T) func() {
		return func(*testing.T) func() {
			before := a.photos[id]
			want := before
			differently(&want)
			a.photos[id] = want
			return func() { a.photos[id] = before }
		}
	}
	// open starts a workflow on a task queue without workers, and waits until it is
	// listed.
	open := func(id string) func(t *testing.T) func() {
		listed := func() bool {
			page, err := a.temporal.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{
				Query: fmt.Sprintf("WorkflowId = '%s' AND ExecutionStatus = 'Running'", id),
			})
			require.NoError(t, err)
			return len(page.GetExecutions()) > 0
		}
		return func(t *testing.T) func() {
			options := temporalclient.StartWorkflowOptions{ID: id, TaskQueue: "nobody"}
			_, err := a.temporal.ExecuteWorkflow(t.Context(), options, "ProcessPhoto")
			require.NoError(t, err)
			require.Eventually(t, listed, time.Minute, 50*time.Millisecond)
			return func() {
				_, err := a.temporal.WorkflowService().DeleteWorkflowExecution(t.Context(), &workflowservice.DeleteWorkflowExecutionRequest{
					Namespace: "default", WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: id},
				})
				require.NoError(t, err)
				require.Eventually(t, func() bool { return !listed() }, time.Minute, 50*time.Millisecond)
			}
		}
	}

	for _, c := range []struct {
		name  string
		plant func(t *testing.T) (undo func())
		want  string
	}{
		{"a file is gone", func(t *testing.T) func() {
			require.NoError(t, os.Remove(file))
			return func() { require.NoError(t, os.WriteFile(file, content, 0o600)) }
		}, thumb.key + ": has a row, but no file"},
		{"a file is cut off", write(file, content[:len(content)/2]), thumb.key + ": cannot be decoded"},
		{"a file has another size", write(file, picture(t, 10, 10)), thumb.key + ": is 10x10, but its row says"},
		{"a file is another picture", write(file, picture(t, thumb.width, thumb.height)), thumb.key + ": shows another photo"},
		{"a file is not what its key says", write(file, append(bytes.Clone(content), 0)), thumb.key + ": is not the content that its key names"},
		{"a file too many", write(filepath.Join(b.bucket, completed.String(), "1x1-0.jpg"), content), "file " + completed.String() + "/1x1-0.jpg: no row names it"},
		{"a file of nobody", write(filepath.Join(b.bucket, "half.tmp"), nil), "file half.tmp: no row names it"},
		{"a source is left", write(filepath.Join(b.sources, "source-1"), nil), "source source-1: was left over"},
		{"a row too many", change(
			`INSERT INTO photo_thumbnails (photo_uuid, width, height, url) VALUES ($1, 1, 1, 'x')`,
			`DELETE FROM photo_thumbnails WHERE photo_uuid = $1 AND width = 1`, completed),
			completed.String() + ": is completed and has 3 rows of thumbnails, not 2"},
		{"a row of a photo that has failed", change(
			`INSERT INTO photo_thumbnails (photo_uuid, width, height, url) VALUES ($1, 1, 1, 'x')`,
			`DELETE FROM photo_thumbnails WHERE photo_uuid = $1`, failed),
			failed.String() + ": is failed and has 1 rows of thumbnails, not 0"},
		{"a row of a photo that was not accepted", change(
			`INSERT INTO photo_thumbnails (photo_uuid, width, height, url) VALUES ($1, 1, 1, 'x')`,
			`DELETE FROM photo_thumbnails WHERE photo_uuid = $1`, pending),
			pending.String() + ": has a row for the thumbnail x, but was never accepted"},
		{"a row is missing", change(
			`UPDATE photo_thumbnails SET photo_uuid = '`+failed.String()+`' WHERE photo_uuid = $1 AND width <= 64`,
			`UPDATE photo_thumbnails SET photo_uuid = $1 WHERE photo_uuid = '`+failed.String()+`'`, completed),
			completed.String() + ": is completed and has 1 rows of thumbnails, not 2"},
		{"a row with another size", change(
			`UPDATE photo_thumbnails SET width = width - 5 WHERE photo_uuid = $1 AND width > 64`,
			`UPDATE photo_thumbnails SET width = width + 5 WHERE photo_uuid = $1 AND width > 64`, completed),
			"but its row says"},
		{"a photo is left processing", change(
			`UPDATE photos SET status = 'processing' WHERE uuid = $1`,
			`UPDATE photos SET status = 'completed' WHERE uuid = $1`, completed),
			completed.String() + ": has no final status: it is processing"},
		{"a photo that is good has failed", change(
			`UPDATE photos SET status = 'failed', failure_code = 'source_unavailable', failure_message = '' WHERE uuid = $1`,
			`UPDATE photos SET status = 'completed', failure_code = NULL, failure_message = NULL WHERE uuid = $1`, completed),
			completed.String() + ": has failed with source_unavailable, for which there is no reason"},
		{"a photo of nobody's", change(
			`INSERT INTO photos (uuid, url) VALUES ($1, 'x')`,
			`DELETE FROM photos WHERE uuid = $1`, uuid.New()), "nobody has added it"},
		{"a photo is completed that must fail", expect(completed, func(want *expected) { want.fails = "corrupt_image" }),
			completed.String() + ": is completed, but must fail with corrupt_image"},
		{"a run of its own accord", expect(completed, func(want *expected) { want.posts = 0 }), "runs for 0 posts"},
		{"a photo that was accepted has no run", expect(pending, func(want *expected) { want.posts, want.accepted = 1, true }),
			pending.String() + ": was accepted, but has no run"},
		{"a deleted photo is there", expect(completed, func(want *expected) { want.row, want.deleted = false, true }),
			completed.String() + ": was deleted, but the API answers 200"},
		{"a deletion is open", open("delete-photo-" + stranger.String()), "workflow delete-photo-" + stranger.String()},
		{"a batch is not done", change(
			`UPDATE batches SET started_at = NULL, done_at = NULL, result = NULL WHERE uuid = $1`,
			`UPDATE batches SET started_at = now() WHERE uuid = $1`, batch), "batch /batches/" + batch.String()},
		{"a batch lacks a photo", func(*testing.T) func() {
			a.locations["/batches/"+batch.String()]++
			return func() { a.locations["/batches/"+batch.String()]-- }
		}, "batch /batches/" + batch.String()},
		{"a workflow is open", open("process-photo-" + stranger.String()), "workflow process-photo-" + stranger.String()},
		{"a workflow that starts others is open", open("start-photos-1"), "workflow start-photos-1"},
		{"a post was accepted, and no workflow was started", func(*testing.T) func() {
			a.batches++
			return func() { a.batches-- }
		}, "workflows start-photos-…: 1 posts were accepted, but there are 0"},
		{"a worker has panicked", write(filepath.Join(a.logs, "worker-9.log"), []byte("panic: runtime error\n")), "log worker-9.log: panic: runtime error"},
		{"an attempt has failed for a defect", write(filepath.Join(a.logs, "worker-9.log"), []byte("level=WARN msg=\"the attempt failed\" code=internal\n")), "log worker-9.log"},
		{"two processes of ours race", write(filepath.Join(a.logs, "api.log.1"), []byte("WARNING: DATA RACE\n")), "log api.log.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			undo := c.plant(t)
			require.Contains(t, audit(t), c.want)
			undo()
		})
	}
	require.Empty(t, audit(t), "what was planted is gone")

	// Last, because it cannot be undone: a run that contradicts the row.
	id := "process-photo-" + completed.String()
	open(id)(t)
	require.NoError(t, a.temporal.TerminateWorkflow(t.Context(), id, "", ""))
	a.closeTime = time.Minute // the visibility store lags behind
	require.Contains(t, audit(t), completed.String()+": is completed , but its last run is Terminated")
}

// TestRepeatedPagesAreCounted: a photo may have one more run per repeated attempt at
// its page; photos of other pages may not.
func TestRepeatedPagesAreCounted(t *testing.T) {
	t.Parallel()
	first, second := uuid.New(), uuid.New()
	page := func(event int64, attempt int32, id uuid.UUID) []*historypb.HistoryEvent {
		input, err := json.Marshal(map[string][]byte{"photos": id[:]})
		require.NoError(t, err)
		return []*historypb.HistoryEvent{
			{EventId: event, Attributes: &historypb.HistoryEvent_ActivityTaskScheduledEventAttributes{
				ActivityTaskScheduledEventAttributes: &historypb.ActivityTaskScheduledEventAttributes{
					Input: &commonpb.Payloads{Payloads: []*commonpb.Payload{{Data: input}}}}}},
			{EventId: event + 1, Attributes: &historypb.HistoryEvent_ActivityTaskStartedEventAttributes{
				ActivityTaskStartedEventAttributes: &historypb.ActivityTaskStartedEventAttributes{ScheduledEventId: event, Attempt: attempt}}},
		}
	}
	repeats := map[uuid.UUID]int{}
	require.NoError(t, countRepeats(append(page(5, 3, first), page(11, 1, second)...), repeats))
	require.NoError(t, countRepeats(page(5, 2, first), repeats), "another batch")
	require.Equal(t, map[uuid.UUID]int{first: 3, second: 0}, repeats)
}

func picture(t *testing.T, width, height int) []byte {
	t.Helper()
	var content bytes.Buffer
	require.NoError(t, jpeg.Encode(&content, image.NewGray(image.Rect(0, 0, width, height)), nil))
	return content.Bytes()
}
