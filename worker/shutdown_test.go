package worker_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
)

func TestAStoppingWorkerFinishesItsActivities(t *testing.T) {
	b := setup(t)
	stop := b.work(t)
	b.awaitRequest(t)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stop()
	}()
	select {
	case <-b.stops: // and waits for its fetch
	case <-time.After(time.Minute):
		t.Fatal("the worker does not stop")
	}
	close(b.release)
	<-stopped

	b.requireCompleted(t)
	require.Empty(t, b.asked, "the source was asked once")
}

// heartbeatTimeout is how long Temporal waits for the heartbeat of a lost
// worker.
const heartbeatTimeout = 30 * time.Second

func TestAnotherWorkerRetriesCanceledActivities(t *testing.T) {
	b := setup(t)
	b.cfg.ShutdownTimeout = time.Second
	stop := b.work(t)
	b.awaitRequest(t)
	start := time.Now()
	stop() // the source never answers this worker

	b.work(t)
	b.awaitRequest(t)
	close(b.release)
	b.requireCompleted(t)
	require.Less(t, time.Since(start), heartbeatTimeout, "the worker reported the attempt before it stopped")
}

// TestAStoppedWorkerIsNotLost stops a worker during a regular attempt: the
// attempt reports how it ended, so that it does not count as lost.
func TestAStoppedWorkerIsNotLost(t *testing.T) {
	b := setup(t)
	b.cfg.ShutdownTimeout = time.Second
	stop := b.work(t)
	b.pendingActivity(t, func(pending *workflowpb.PendingActivityInfo) bool {
		return pending.GetState() == enumspb.PENDING_ACTIVITY_STATE_STARTED && pending.GetHeartbeatDetails() != nil
	})
	stop()
	b.pendingActivity(t, func(pending *workflowpb.PendingActivityInfo) bool {
		return progressOf(t, pending).LastReportedAttempt == 1
	})
	close(b.release)
	b.work(t)
	b.requireCompleted(t)
}
