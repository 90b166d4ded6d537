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

// reconcilerID is the id of the schedule, and of the workflows it starts.
// Task queues share nothing but a namespace.
func reconcilerID(taskQueue string) string { return taskQueue + "-reconciler" }

// scheduleReconciler sees to it that Temporal runs the reconciler regularly.
// Every worker does so at its start; all but the first find it done, and give
// the schedule their own configuration.
func scheduleReconciler(ctx context.Context, c client.Client, cfg config.Config) error {
	id := reconcilerID(cfg.TaskQueue)
	spec := client.ScheduleSpec{Intervals: []client.ScheduleIntervalSpec{{Every: cfg.ReconcileInterval}}}
	action := &client.ScheduleWorkflowAction{
		ID: id, TaskQueue: cfg.TaskQueue,
		Workflow: workflows.ReconcilePhotos, Args: []any{workflows.ReconcilePhotosInput{}},
		StaticSummary: "Look for photos that were left processing",
	}
	const (
		// One run at a time: the next looks at all photos anyhow.
		overlap = enumspb.SCHEDULE_OVERLAP_POLICY_SKIP
		// What was missed while Temporal was down need not be made up for.
		catchup = 10 * time.Second
	)
	_, err := c.ScheduleClient().Create(ctx, client.ScheduleOptions{ID: id, Spec: spec, Action: action, Overlap: overlap, CatchupWindow: catchup})
	if !errors.Is(err, temporal.ErrScheduleAlreadyRunning) {
		return err
	}
	return c.ScheduleClient().GetHandle(ctx, id).Update(ctx, client.ScheduleUpdateOptions{
		DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
			schedule := in.Description.Schedule // its state, such as paused, is the operator's
			schedule.Spec, schedule.Action = &spec, action
			schedule.Policy = &client.SchedulePolicies{Overlap: overlap, CatchupWindow: catchup}
			return &client.ScheduleUpdate{Schedule: &schedule}, nil
		},
	})
}
