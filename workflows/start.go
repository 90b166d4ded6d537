package workflows

import (
	"context"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// Start starts the workflow that processes a photo. One that runs already is
// left to run; one that has ended is run again.
func Start(ctx context.Context, temporal client.Client, taskQueue string, id uuid.UUID) (client.WorkflowRun, error) {
	return temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID:                       photo.WorkflowID(id),
		TaskQueue:                taskQueue,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		StaticSummary:            "Thumbnails of photo " + id.String(),
	}, ProcessPhoto, ProcessPhotoInput{Photo: id})
}
