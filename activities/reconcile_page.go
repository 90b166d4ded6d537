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

// ReconcileCursor is a position in the list of processing photos, which is
// ordered by CreatedAt and UUID: after the photo with these values. The zero
// value is the start.
type ReconcileCursor struct {
	CreatedAt time.Time `json:"created_at"`
	UUID      uuid.UUID `json:"uuid"`
}

// ReconcilePageInput selects the photos to check.
type ReconcilePageInput struct {
	After ReconcileCursor `json:"after"`
	Limit int             `json:"limit"` // largest number of photos
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
	Next ReconcileCursor `json:"next"`
	Last bool            `json:"last"` // there is no next page
}

// describeConcurrency is the number of concurrent DescribeWorkflowExecution
// requests.
const describeConcurrency = 8

// ReconcilePage compares a page of the processing photos with Temporal. It
// fails a photo whose run was terminated, and starts a photo again whose run
// closed in another way without a final status, or is unknown to Temporal. It
// is idempotent: a photo with an open run is left alone, a final status is
// fenced by its run, and a photo whose workflow is running gets no second one.
func (a *Activities) ReconcilePage(ctx context.Context, in ReconcilePageInput) (*ReconcilePageResult, error) {
	result, err := a.reconcilePage(ctx, in)
	if err != nil {
		failure, err := classify(ctx, err)
		if failure == nil {
			a.logOutage(ctx, err)
			return nil, err
		}
		a.logFailure(ctx, failure, err, false)
		return nil, failureError(failure, false) // a defect; no photo may fail for it, so that it is retried
	}
	return result, nil
}

func (a *Activities) reconcilePage(ctx context.Context, in ReconcilePageInput) (*ReconcilePageResult, error) {
	defer sendHeartbeats(ctx, func() any { return nil })()
	page, err := a.DB.ListProcessing(ctx, postgres.Cursor{CreatedAt: in.After.CreatedAt, UUID: in.After.UUID}, in.Limit)
	if err != nil {
		return nil, err
	}
	result := &ReconcilePageResult{Last: len(page) < in.Limit}
	result.Checked = len(page)
	if !result.Last {
		last := page[len(page)-1]
		result.Next = ReconcileCursor{CreatedAt: last.CreatedAt, UUID: last.Run.Photo}
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

// runStatus reads the run's status from Temporal; it is unspecified for a run
// that Temporal does not have. For a photo of the first schema, which has no
// run ID, it is the status of the workflow's latest run.
func (a *Activities) runStatus(ctx context.Context, run photo.Run) (enumspb.WorkflowExecutionStatus, error) {
	description, err := a.Temporal.DescribeWorkflowExecution(ctx, photo.WorkflowID(run.Photo), run.ID)
	if _, ok := errors.AsType[*serviceerror.NotFound](err); ok {
		return enumspb.WORKFLOW_EXECUTION_STATUS_UNSPECIFIED, nil
	}
	if err != nil {
		return enumspb.WORKFLOW_EXECUTION_STATUS_UNSPECIFIED, fmt.Errorf("describe the photo's workflow: %w", err)
	}
	return description.GetWorkflowExecutionInfo().GetStatus(), nil
}
