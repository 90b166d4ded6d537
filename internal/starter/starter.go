// Package starter starts the workflows of photos.
package starter

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/workflows"
)

// Starter starts workflows on one task queue. Its errors are those of the
// Temporal client.
type Starter struct {
	Temporal  client.Client
	TaskQueue string
}

// StartPhoto starts the workflow of a photo with PriorityInteractive. If the
// photo's workflow is running, StartPhoto returns that run; a closed workflow
// gets a new run.
func (s Starter) StartPhoto(ctx context.Context, id uuid.UUID) (client.WorkflowRun, error) {
	return s.startPhoto(ctx, id, workflows.PriorityInteractive)
}

// StartBatchPhoto is StartPhoto with PriorityBatch, for a photo of a request
// whose photos a workflow starts: of more than START_DIRECTLY UUIDs, or selected
// by their status.
func (s Starter) StartBatchPhoto(ctx context.Context, id uuid.UUID) (client.WorkflowRun, error) {
	return s.startPhoto(ctx, id, workflows.PriorityBatch)
}

func (s Starter) startPhoto(ctx context.Context, id uuid.UUID, priority temporal.Priority) (client.WorkflowRun, error) {
	return s.start(ctx, photo.WorkflowID(id), "Thumbnails of photo "+id.String(), priority,
		workflows.ProcessPhoto, workflows.ProcessPhotoInput{Photo: id})
}

// StartDelete starts the DeletePhoto workflow of a photo, or returns the one that
// is running.
func (s Starter) StartDelete(ctx context.Context, id uuid.UUID) (client.WorkflowRun, error) {
	return s.start(ctx, photo.DeleteWorkflowID(id), "Delete photo "+id.String(), workflows.PriorityFirst,
		workflows.DeletePhoto, activities.DeletePhotoInput{Photo: id})
}

// StartBatch starts a StartPhotos workflow, which then starts the photos'
// workflows as a batch with this UUID.
// If the error is nil, Temporal has accepted all photos; otherwise it has
// accepted either all or none.
func (s Starter) StartBatch(ctx context.Context, batch uuid.UUID, ids []uuid.UUID) (client.WorkflowRun, error) {
	return s.start(ctx, photo.BatchWorkflowID(batch), fmt.Sprintf("Start %d photos", len(ids)), workflows.PriorityFirst,
		workflows.StartPhotos, workflows.StartPhotosInput{Batch: batch, Photos: ids})
}

// StartSelected starts a StartSelected workflow, which then starts the workflows
// of the photos that its input selects.
func (s Starter) StartSelected(ctx context.Context, in workflows.StartSelectedInput) (client.WorkflowRun, error) {
	return s.start(ctx, photo.BatchWorkflowID(in.Batch), "Start the photos with "+in.Query, workflows.PriorityFirst,
		workflows.StartSelected, in)
}

// StartNotifyBatch starts a NotifyBatch workflow, for a batch without a workflow
// of its own.
func (s Starter) StartNotifyBatch(ctx context.Context, batch uuid.UUID) error {
	_, err := s.start(ctx, workflows.BatchWebhookID(batch), "Webhook of batch "+batch.String(), workflows.PriorityBatch,
		workflows.NotifyBatch, activities.AwaitBatchInput{Batch: batch})
	return err
}

// start starts a workflow. If one with the ID is running, start returns that
// run.
func (s Starter) start(ctx context.Context, id, summary string, priority temporal.Priority, workflow, in any) (client.WorkflowRun, error) {
	return s.Temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID:                       id,
		TaskQueue:                s.TaskQueue,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		StaticSummary:            summary,
		Priority:                 priority,
	}, workflow, in)
}
