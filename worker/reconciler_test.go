package worker_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
)

// reconcile triggers the schedule of the reconciler, and returns the run's
// result.
func (b *testBundle) reconcile(t *testing.T) activities.Reconciled {
	t.Helper()
	schedule := b.temporal.ScheduleClient().GetHandle(t.Context(), b.cfg.TaskQueue+"-reconciler")
	before, err := schedule.Describe(t.Context())
	require.NoError(t, err)
	require.NoError(t, schedule.Trigger(t.Context(), client.ScheduleTriggerOptions{Overlap: enumspb.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL}))
	var total activities.Reconciled
	require.Eventually(t, func() bool {
		now, err := schedule.Describe(t.Context())
		require.NoError(t, err)
		if now.Info.NumActions == before.Info.NumActions || len(now.Info.RunningWorkflows) > 0 {
			return false
		}
		started := now.Info.RecentActions[len(now.Info.RecentActions)-1].StartWorkflowResult
		return b.temporal.GetWorkflow(t.Context(), started.WorkflowID, started.FirstExecutionRunID).Get(t.Context(), &total) == nil
	}, time.Minute, 50*time.Millisecond)
	return total
}

func TestReconciler(t *testing.T) {
	b := setup(t)
	b.work(t)
	b.awaitRequest(t)
	require.Equal(t, activities.Reconciled{Checked: 1}, b.reconcile(t), "a photo whose run is open is left alone")

	require.NoError(t, b.temporal.TerminateWorkflow(t.Context(), photo.WorkflowID(b.photo), "", "test"))
	require.Equal(t, activities.Reconciled{Checked: 1, MarkedFailed: 1}, b.reconcile(t))
	p, err := b.db.Photo(t.Context(), b.photo)
	require.NoError(t, err)
	require.Equal(t, photo.Failed, p.Status)
	require.Equal(t, photo.Canceled, p.Failure.Code)

	// Runs that are unknown to Temporal, because their retention is over or
	// Temporal's database was lost. They fill more than one page.
	close(b.release)
	const lost = 203
	photos, err := b.db.AddPhotos(t.Context(), slices.Repeat([]string{"ftp://invalid"}, lost-1)) // fail at once
	require.NoError(t, err)
	for _, p := range append(photos, p) {
		run := photo.Run{Photo: p.UUID, ID: uuid.NewString(), StartedAt: time.Now()}
		_, err := b.db.MarkProcessing(t.Context(), run)
		require.NoError(t, err)
	}
	require.Equal(t, activities.Reconciled{Checked: lost, Restarted: lost}, b.reconcile(t))
	b.requireCompleted(t)
}

func TestTheScheduleFollowsTheConfiguration(t *testing.T) {
	b := setup(t)
	b.cfg.ReconcileInterval = 10 * time.Minute
	b.work(t)
	b.awaitRequest(t)
	schedule := b.temporal.ScheduleClient().GetHandle(t.Context(), b.cfg.TaskQueue+"-reconciler")
	described, err := schedule.Describe(t.Context())
	require.NoError(t, err)
	require.Equal(t, 10*time.Minute, described.Schedule.Spec.Intervals[0].Every)
	require.NoError(t, schedule.Pause(t.Context(), client.SchedulePauseOptions{Note: "by an operator"}))

	b.cfg.ReconcileInterval = time.Minute
	b.work(t)
	require.Eventually(t, func() bool {
		described, err = schedule.Describe(t.Context())
		require.NoError(t, err)
		return described.Schedule.Spec.Intervals[0].Every == time.Minute
	}, time.Minute, 50*time.Millisecond)
	require.True(t, described.Schedule.State.Paused, "the operator's pause is kept")
	require.Equal(t, enumspb.SCHEDULE_OVERLAP_POLICY_SKIP, described.Schedule.Policy.Overlap)
	close(b.release)
}

// TestReconcilerAbandonsABatch terminates the workflow of a batch, and checks
// that the batch ends.
func TestReconcilerAbandonsABatch(t *testing.T) {
	b := setup(t)
	b.work(t)
	b.awaitRequest(t)
	conn, err := pgx.Connect(t.Context(), b.cfg.DatabaseURL)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	terminated, running, old := uuid.New(), uuid.New(), uuid.New()
	for _, batch := range []uuid.UUID{terminated, running, old} {
		require.NoError(t, b.db.CreateBatch(t.Context(), batch, []uuid.UUID{b.photo, uuid.New()}))
	}
	_, err = conn.Exec(t.Context(), `UPDATE batches SET created_at = now() - CASE WHEN uuid = $1 THEN interval '31 days' ELSE interval '2 minutes' END`, old)
	require.NoError(t, err)
	nobody := b.starter()
	nobody.TaskQueue = "without workers"
	_, err = nobody.StartBatch(t.Context(), running, []uuid.UUID{b.photo})
	require.NoError(t, err)

	b.reconcile(t)
	got, err := b.db.Batch(t.Context(), terminated)
	require.NoError(t, err)
	require.True(t, got.Canceled)
	got, err = b.db.Batch(t.Context(), running)
	require.NoError(t, err)
	require.False(t, got.Canceled)
	_, err = b.db.Batch(t.Context(), old)
	require.ErrorIs(t, err, postgres.ErrNoBatch)
	close(b.release)
}
