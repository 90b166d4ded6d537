package worker

import (
	"context"
	"errors"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/workflows"
)

// reconcilerID is the ID of the schedule, and the beginning of the IDs of its
// workflows, to which Temporal appends the time. It contains the task queue,
// because several installations may share a namespace.
func reconcilerID(taskQueue string) string { return taskQueue + "-reconciler" }

// scheduleReconciler creates the schedule that starts ReconcilePhotos every
// RECONCILE_INTERVAL. Every worker calls it at its start; if the schedule
// exists, the worker's configuration replaces the schedule's.
func scheduleReconciler(ctx context.Context, c client.Client, cfg config.Config) error {
	id := reconcilerID(cfg.TaskQueue)
	spec := client.ScheduleSpec{Intervals: []client.ScheduleIntervalSpec{{Every: cfg.ReconcileInterval}}}
	action := &client.ScheduleWorkflowAction{
		ID: id, TaskQueue: cfg.TaskQueue,
		Workflow: workflows.ReconcilePhotos, Args: []any{workflows.ReconcilePhotosInput{}},
		StaticSummary: "Look for photos that were left processing",
	}
	const (
		// Concurrent runs would check the same photos, so skip a run while one
		// is open.
		overlap = enumspb.SCHEDULE_OVERLAP_POLICY_SKIP
		// The next run checks all photos, so runs that an outage of Temporal
		// prevented are not caught up.
		catchup = 10 * time.Second
	)
	_, err := c.ScheduleClient().Create(ctx, client.ScheduleOptions{ID: id, Spec: spec, Action: action, Overlap: overlap, CatchupWindow: catchup})
	if !errors.Is(err, temporal.ErrScheduleAlreadyRunning) {
		return err
	}
	return c.ScheduleClient().GetHandle(ctx, id).Update(ctx, client.ScheduleUpdateOptions{
		DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
			schedule := in.Description.Schedule // keep its state: an operator may have paused it
			schedule.Spec, schedule.Action = &spec, action
			schedule.Policy = &client.SchedulePolicies{Overlap: overlap, CatchupWindow: catchup}
			return &client.ScheduleUpdate{Schedule: &schedule}, nil
		},
	})
}
