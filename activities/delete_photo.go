package activities

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// DeletePhotoInput names the photo that is deleted.
type DeletePhotoInput struct {
	Photo uuid.UUID `json:"photo"`
}

// DeleteRows deletes the rows of the photo and its thumbnails. From then on no
// run owns the photo, so that none can record a thumbnail. It is idempotent.
func (a *Activities) DeleteRows(ctx context.Context, in DeletePhotoInput) error {
	return a.retryableError(ctx, a.DB.DeletePhoto(ctx, in.Photo))
}

// RunIsOpen is the error type of a run that has been canceled and is still open.
const RunIsOpen = "run_is_open"

// Delays between two attempts of StopRun.
const (
	minStopPoll = time.Second
	maxStopPoll = time.Minute
)

// StopRun cancels the photo's run, and returns nil once it is closed. Otherwise
// Temporal retries it, with a growing delay.
func (a *Activities) StopRun(ctx context.Context, in DeletePhotoInput) error {
	id := photo.WorkflowID(in.Photo)
	err := a.Temporal.CancelWorkflow(ctx, id, "")
	if _, closed := errors.AsType[*serviceerror.NotFound](err); closed {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cancel the workflow %s: %w", id, err)
	}
	status, err := a.workflowStatus(ctx, id, "")
	if err != nil {
		return err
	}
	if status != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return nil
	}
	delay := min(minStopPoll<<min(activity.GetInfo(ctx).Attempt-1, 6), maxStopPoll)
	return waitError("the photo's run is canceled and still open", RunIsOpen, delay)
}

// DeleteFiles deletes the files of a photo that has no row. It runs after the
// photo's run is closed: a run that loses its photo deletes the files that it
// wrote, but its worker may crash before that. It is idempotent.
func (a *Activities) DeleteFiles(ctx context.Context, in DeletePhotoInput) error {
	files, err := a.listThumbnails(ctx, in.Photo)
	if err == nil {
		err = a.deleteOrphanedFiles(ctx, in.Photo, files)
	}
	return a.retryableError(ctx, err)
}
