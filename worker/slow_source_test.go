package worker_test

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/temporal"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// TestALocalActivityIsCanceled cancels the workflow while its local activity
// waits for the source.
func TestALocalActivityIsCanceled(t *testing.T) {
	b := setup(t)
	b.work(t)
	b.awaitRequest(t)
	require.NoError(t, b.temporal.CancelWorkflow(t.Context(), photo.WorkflowID(b.photo), ""))
	err := b.temporal.GetWorkflow(t.Context(), photo.WorkflowID(b.photo), "").Get(t.Context(), nil)
	require.True(t, temporal.IsCanceledError(err), "%v", err)
	p, err := b.db.Photo(t.Context(), b.photo)
	require.NoError(t, err)
	require.Equal(t, photo.Canceled, p.Failure.Code)
}

// TestASlowSourceShowsProgress lets a source stall after half of a picture. The
// Web UI shows the number of bytes received by the fetch that the local
// activity started.
func TestASlowSourceShowsProgress(t *testing.T) {
	b := setup(t)
	half := len(b.content) / 2
	b.answer = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(b.content)))
		_, _ = w.Write(b.content[:half])
		_ = http.NewResponseController(w).Flush()
		select {
		case <-b.release:
			_, _ = w.Write(b.content[half:])
		case <-r.Context().Done():
		}
	}
	start := time.Now()
	b.work(t)
	b.pendingActivity(t, func(pending *workflowpb.PendingActivityInfo) bool {
		return pending.GetActivityType().GetName() == "FetchSource" && progressOf(t, pending).BytesReceived == int64(half)
	})
	t.Logf("seen after %s", time.Since(start))
	close(b.release)
	b.requireCompleted(t)
	require.Len(t, b.asked, 1)
}
