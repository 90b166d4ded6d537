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

// ReconcileCursor is a place in the list of photos that are processing.
type ReconcileCursor struct {
	CreatedAt time.Time `json:"created_at"`
	UUID      uuid.UUID `json:"uuid"`
}

// ReconcilePageInput says which photos to look at: up to Limit of those that
// are processing, from the cursor on.
type ReconcilePageInput struct {
	After ReconcileCursor `json:"after"`
	Limit int             `json:"limit"`
}

// Reconciled counts photos.
type Reconciled struct {
	Checked      int `json:"checked"`   // that are processing
	MarkedFailed int `json:"ended"`     // whose run was terminated: they have failed
	Restarted    int `json:"restarted"` // whose run is gone: they are processed again
}

// ReconcilePageResult says what was done, and where the next page begins.
type ReconcilePageResult struct {
	Reconciled
	Next ReconcileCursor `json:"next"`
	Last bool            `json:"last"` // there is no next page
}

// describeConcurrency is how many workflows are looked at concurrently.
const describeConcurrency = 8

// ReconcilePage looks at a page of the photos that are processing. It is
// idempotent: a photo whose run is open is left alone, a final status is
// fenced by the run that it is of, and a workflow is started once only.
func (a *Activities) ReconcilePage(ctx context.Context, in ReconcilePageInput) (*ReconcilePageResult, error) {
	result, err := a.reconcilePage(ctx, in)
	if err != nil {
		failure, err := a.classifyAndLog(ctx, err)
		if failure != nil { // retried without end: no photo is to blame
			err = failureError(failure, false)
		}
		return nil, err
	}
	return result, nil
}

func (a *Activities) reconcilePage(ctx context.Context, in ReconcilePageInput) (*ReconcilePageResult, error) {
	defer sendHeartbeats(ctx, func() any { return nil })()
	page, err := a.DB.Processing(ctx, postgres.Cursor{CreatedAt: in.After.CreatedAt, UUID: in.After.UUID}, in.Limit)
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

// reconcile looks at one photo that was processing a moment ago.
func (a *Activities) reconcile(ctx context.Context, run photo.Run) (done Reconciled, err error) {
	ctx = withPhotoAttrs(ctx, run)
	status, err := a.runStatus(ctx, run)
	if err != nil || status == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return done, err
	}
	if status == enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED {
		a.Log.WarnContext(ctx, "the photo's workflow was terminated")
		err := a.finish(ctx, FinishInput{Step: Step{Run: run}, Failure: photo.Fail(photo.Canceled, "the workflow was terminated")})
		if errors.Is(err, photo.ErrSuperseded) {
			return done, nil // somebody has posted it again meanwhile
		}
		return Reconciled{MarkedFailed: 1}, err
	}
	// A run writes its final status before it closes: look again, now that it
	// is known to be closed.
	still, err := a.DB.StillProcessing(ctx, run)
	if err != nil || !still {
		return done, err
	}
	a.Log.WarnContext(ctx, "the photo's run is gone; it is processed again", "status", status)
	return Reconciled{Restarted: 1}, a.StartProcessing(ctx, run.Photo)
}

// runStatus reads the run's status from Temporal; unspecified if Temporal does not
// have it. A photo of the first schema may have no run: then the workflow's newest
// counts.
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
