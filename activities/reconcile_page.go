package activities

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"golang.org/x/sync/errgroup"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
)

// Cursor is a position in a list of photos, which is ordered by CreatedAt and
// UUID: after the photo with these values. The zero value is the start.
type Cursor struct {
	CreatedAt time.Time `json:"created_at"`
	UUID      uuid.UUID `json:"uuid"`
}

// ReconcilePageInput selects the photos to check.
type ReconcilePageInput struct {
	After Cursor `json:"after"`
	Limit int    `json:"limit"` // largest number of photos
}

// Reconciled counts photos.
type Reconciled struct {
	Checked      int `json:"checked"`   // found processing
	MarkedFailed int `json:"ended"`     // failed, because their run was terminated; the key is the one in stored histories
	Restarted    int `json:"restarted"` // started again, because their run is gone and left no final status
}

// ReconcilePageResult has the counts of one page, and the cursor of the next.
type ReconcilePageResult struct {
	Reconciled
	Next Cursor `json:"next"`
	Last bool   `json:"last"` // there is no next page
}

// describeConcurrency is the number of concurrent DescribeWorkflowExecution
// requests.
const describeConcurrency = 8

// ReconcilePage compares a page of the processing photos with Temporal. It
// fails a photo whose run was terminated, and starts a photo again whose run
// closed in another way without a final status, or is unknown to Temporal. It
// is idempotent: a photo with an open run is left alone, a final status is
// fenced by its run, and a photo whose workflow is running gets no second one.
// The first page of a pass also reconciles the batches.
func (a *Activities) ReconcilePage(ctx context.Context, in ReconcilePageInput) (*ReconcilePageResult, error) {
	result, err := a.reconcilePage(ctx, in)
	if err != nil {
		return nil, a.retryableError(ctx, err)
	}
	return result, nil
}

func (a *Activities) reconcilePage(ctx context.Context, in ReconcilePageInput) (*ReconcilePageResult, error) {
	defer sendHeartbeats(ctx, func() any { return nil })()
	if in.After == (Cursor{}) {
		if err := a.reconcileBatches(ctx); err != nil {
			return nil, err
		}
	}
	page, err := a.DB.ListProcessing(ctx, postgres.Cursor(in.After), in.Limit)
	if err != nil {
		return nil, err
	}
	result := &ReconcilePageResult{Last: len(page) < in.Limit}
	result.Checked = len(page)
	if !result.Last {
		last := page[len(page)-1]
		result.Next = Cursor{CreatedAt: last.CreatedAt, UUID: last.Run.Photo}
	}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(describeConcurrency)
	for _, p := range page {
		group.Go(func() error {
			done, err := a.reconcile(ctx, p.Run)
			mu.Lock()
			defer mu.Unlock()
			result.MarkedFailed += done.MarkedFailed
			result.Restarted += done.Restarted
			return err
		})
	}
	return result, group.Wait()
}

// reconcile checks and repairs one photo. Its status was processing when the
// page was listed, and may have changed.
func (a *Activities) reconcile(ctx context.Context, run photo.Run) (done Reconciled, err error) {
	ctx = withPhotoAttrs(ctx, run)
	status, err := a.runStatus(ctx, run)
	if err != nil || status == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return done, err
	}
	if status == enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED {
		err := a.finish(ctx, FinishInput{StepInput: StepInput{Run: run}, Failure: photo.Fail(photo.Canceled, "the workflow was terminated")})
		if errors.Is(err, photo.ErrSuperseded) {
			return done, nil // the photo was posted again, and a newer run owns it
		}
		return Reconciled{MarkedFailed: 1}, err
	}
	// A run writes its final status before it closes. It may have done both
	// after the page was listed, so read the status again.
	processing, err := a.DB.IsProcessing(ctx, run)
	if err != nil || !processing {
		return done, err
	}
	a.Log.WarnContext(ctx, "the photo's run closed without a final status, or is unknown to Temporal; the photo is processed again", "status", status)
	return Reconciled{Restarted: 1}, a.StartPhoto(ctx, run.Photo)
}

const (
	// openBatches is the number of batches, of each kind, that one pass of the
	// reconciler looks at.
	openBatches = 100
	// unstartedAge is the age from which a batch with photos that are not started
	// must have a workflow.
	unstartedAge = time.Minute
)

// reconcileBatches deletes batches that are older than BatchRetention, ends those
// whose workflow closed before it had started all photos, and stores the counts
// of finished batches that no client has read.
func (a *Activities) reconcileBatches(ctx context.Context) error {
	if err := a.DB.DeleteBatches(ctx, a.BatchRetention); err != nil {
		return err
	}
	unstarted, err := a.DB.UnstartedBatches(ctx, unstartedAge, openBatches)
	if err != nil {
		return err
	}
	for _, batch := range unstarted {
		status, err := a.workflowStatus(ctx, photo.BatchWorkflowID(batch), "")
		if err != nil {
			return err
		}
		if status == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
			continue
		}
		a.Log.WarnContext(ctx, "the batch's workflow has ended before it started all photos, or is unknown to Temporal; the batch counts as canceled", "batch", batch, "status", status)
		if err := a.DB.AbandonBatch(ctx, batch); err != nil {
			return err
		}
	}
	_, err = a.DB.OpenBatches(ctx, openBatches)
	return err
}

// runStatus reads the run's status from Temporal. For a photo of the first
// schema, which has no run ID, it is the status of the workflow's latest run.
func (a *Activities) runStatus(ctx context.Context, run photo.Run) (enumspb.WorkflowExecutionStatus, error) {
	return a.workflowStatus(ctx, photo.WorkflowID(run.Photo), run.ID)
}

// workflowStatus reads the status of a run from Temporal; it is unspecified for
// a run that Temporal does not have.
func (a *Activities) workflowStatus(ctx context.Context, workflowID, runID string) (enumspb.WorkflowExecutionStatus, error) {
	description, err := a.Temporal.DescribeWorkflowExecution(ctx, workflowID, runID)
	if _, ok := errors.AsType[*serviceerror.NotFound](err); ok {
		return enumspb.WORKFLOW_EXECUTION_STATUS_UNSPECIFIED, nil
	}
	if err != nil {
		return enumspb.WORKFLOW_EXECUTION_STATUS_UNSPECIFIED, fmt.Errorf("describe the workflow %s: %w", workflowID, err)
	}
	return description.GetWorkflowExecutionInfo().GetStatus(), nil
}
