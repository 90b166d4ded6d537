package worker_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/photo"
)

// TestABusyHostLeavesSlotsForOthers starts many photos at a host that never
// answers, and then one at another host, which answers once the photo's regular
// activity runs. The photo is completed while all others wait.
func TestABusyHostLeavesSlotsForOthers(t *testing.T) {
	b := setup(t)
	b.cfg.WorkerActivities, b.cfg.SourceHostConcurrency, b.cfg.SourceMaxWaiting = 6, 2, 2
	b.cfg.SourceMaxHostWait, b.cfg.ShutdownTimeout = 10*time.Millisecond, time.Second
	b.cfg.SourceAllowCIDRs = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	listener, err := net.Listen("tcp", "127.1.1.1:0")
	require.NoError(t, err)
	silent := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	silent.Listener = listener
	silent.Start()
	t.Cleanup(silent.Close) // after the worker has stopped
	const others = 20
	urls := make([]string, others)
	for i := range urls {
		urls[i] = fmt.Sprintf("%s/%d.jpg", silent.URL, i)
	}
	waiting, err := b.db.AddPhotos(t.Context(), urls)
	require.NoError(t, err)
	for _, p := range waiting {
		_, err := b.starter().StartPhoto(t.Context(), p.UUID)
		require.NoError(t, err)
	}
	b.work(t)
	own := b.photo
	busy := 0
	for _, p := range waiting {
		b.photo = p.UUID
		b.pendingActivity(t, func(pending *workflowpb.PendingActivityInfo) bool {
			if pending.GetLastFailure().GetApplicationFailureInfo().GetType() == activities.HostBusy {
				busy++
				return true
			}
			return pending.GetState() == enumspb.PENDING_ACTIVITY_STATE_STARTED
		})
	}
	require.Positive(t, busy)

	first, err := b.db.Photo(t.Context(), own)
	require.NoError(t, err)
	added, err := b.db.AddPhotos(t.Context(), []string{first.URL})
	require.NoError(t, err)
	b.photo = added[0].UUID
	_, err = b.starter().StartPhoto(t.Context(), b.photo)
	require.NoError(t, err)
	b.pendingActivity(t, func(pending *workflowpb.PendingActivityInfo) bool {
		return pending.GetState() == enumspb.PENDING_ACTIVITY_STATE_STARTED
	})
	close(b.release)
	b.requireCompleted(t)
	for _, p := range waiting {
		shown, err := b.db.Photo(t.Context(), p.UUID)
		require.NoError(t, err)
		require.Equal(t, photo.Processing, shown.Status)
	}
}
