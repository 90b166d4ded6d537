package workflows

import (
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/photo-processor/photo-processor/activities"
)

// ReconcilePhotosInput says where a run continues. The zero value starts with
// the oldest photo.
type ReconcilePhotosInput struct {
	After  activities.Cursor     `json:"after"`
	Totals activities.Reconciled `json:"totals"` // sums of the runs that this run continues
}

const (
	// reconcilePages is the number of pages that one run checks before it
	// continues as a new run: 4,000 photos, and a history of about 120 events.
	reconcilePages = 20
	// reconcileLimit is the number of photos in a page. Each costs a request to
	// Temporal, so that a page takes about a second.
	reconcileLimit = 200
)

var reconcileOptions = workflow.ActivityOptions{
	StartToCloseTimeout: 5 * time.Minute,
	HeartbeatTimeout:    heartbeatTimeout,
	Priority:            PriorityFirst,
	Summary:             "Compare photos that are processing with their workflows",
	RetryPolicy:         &retryPolicy,
}

// ReconcilePhotos repairs photos whose status is processing although their run
// is not open. A photo whose run was terminated fails. A photo is started again
// if its run closed in another way without recording a final status, or if
// Temporal does not have the run, for example after its database was restored
// from a backup. A schedule starts this workflow; see package worker.
func ReconcilePhotos(ctx workflow.Context, in ReconcilePhotosInput) (*activities.Reconciled, error) {
	ctx = workflow.WithActivityOptions(ctx, reconcileOptions)
	for range reconcilePages {
		var page activities.ReconcilePageResult
		err := workflow.ExecuteActivity(ctx, activityNames.ReconcilePage, activities.ReconcilePageInput{After: in.After, Limit: reconcileLimit}).Get(ctx, &page)
		if err != nil {
			return nil, err
		}
		in.Totals.Checked += page.Checked
		in.Totals.MarkedFailed += page.MarkedFailed
		in.Totals.Restarted += page.Restarted
		if page.Last {
			return &in.Totals, nil
		}
		in.After = page.Next
	}
	return nil, workflow.NewContinueAsNewError(ctx, ReconcilePhotos, in)
}
