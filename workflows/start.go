package workflows

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// Priorities of tasks, by which Temporal hands them out when a queue has more
// than the workers can take. Smaller numbers go first; 3 is the default.
var (
	priorityFirst  = temporal.Priority{PriorityKey: 1} // ends what has been begun, or is short and keeps the rest going
	prioritySingle = temporal.Priority{PriorityKey: 2} // somebody may be waiting for it
	priorityBatch  = temporal.Priority{PriorityKey: 4}
)

// Start starts the workflow that processes a photo. One that is running already is
// left to run; one that has ended is run again.
func Start(ctx context.Context, c client.Client, taskQueue string, id uuid.UUID) (client.WorkflowRun, error) {
	return start(ctx, c, taskQueue, id, prioritySingle)
}

// StartInBatch is Start for a photo that comes behind those that are started
// singly.
func StartInBatch(ctx context.Context, c client.Client, taskQueue string, id uuid.UUID) (client.WorkflowRun, error) {
	return start(ctx, c, taskQueue, id, priorityBatch)
}

func start(ctx context.Context, c client.Client, taskQueue string, id uuid.UUID, priority temporal.Priority) (client.WorkflowRun, error) {
	return c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID:                       photo.WorkflowID(id),
		TaskQueue:                taskQueue,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		StaticSummary:            "Thumbnails of photo " + id.String(),
		Priority:                 priority,
	}, ProcessPhoto, ProcessPhotoInput{Photo: id})
}

// StartMany starts a workflow that starts those of the photos. When it returns,
// Temporal has them all; with an error, perhaps not.
func StartMany(ctx context.Context, c client.Client, taskQueue string, ids []uuid.UUID) (client.WorkflowRun, error) {
	return c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID:            "start-photos-" + uuid.NewString(),
		TaskQueue:     taskQueue,
		StaticSummary: fmt.Sprintf("Start %d photos", len(ids)),
		Priority:      priorityFirst,
	}, StartPhotos, StartPhotosInput{Photos: ids})
}
