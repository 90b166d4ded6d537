package workflows

import (
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/photo-processor/photo-processor/activities"
)

// ReconcilePhotosInput says where to begin; its zero value is the beginning.
type ReconcilePhotosInput struct {
	After  activities.ReconcileCursor `json:"after"`
	Totals activities.Reconciled      `json:"totals"` // of the runs that this one continues
}

const (
	// reconcilePages is how many pages one run looks at before it continues as a
	// new one: so many that this is rare, so few that the history stays small.
	reconcilePages = 20
	// reconcileLimit is how many photos are in a page. Each costs Temporal a
	// look, so that a page takes about a second.
	reconcileLimit = 200
)

var reconcileOptions = workflow.ActivityOptions{
	StartToCloseTimeout: 5 * time.Minute,
	HeartbeatTimeout:    heartbeatTimeout,
	Priority:            PriorityFirst,
	Summary:             "Compare photos that are processing with their workflows",
	RetryPolicy:         &retryPolicy,
}

// ReconcilePhotos finds the photos that are processing although their run has
// ended without a word, as one does that was terminated, and gives each its
// true end or starts it again. A schedule runs it; see package worker.
func ReconcilePhotos(ctx workflow.Context, in ReconcilePhotosInput) (*activities.Reconciled, error) {
	ctx = workflow.WithActivityOptions(ctx, reconcileOptions)
	for range reconcilePages {
		var page activities.ReconcilePageResult
		err := workflow.ExecuteActivity(ctx, act.ReconcilePage, activities.ReconcilePageInput{After: in.After, Limit: reconcileLimit}).Get(ctx, &page)
		if err != nil {
			return nil, err
		}
		in.Totals.Checked += page.Checked
		in.Totals.Ended += page.Ended
		in.Totals.Restarted += page.Restarted
		if page.Last {
			return &in.Totals, nil
		}
		in.After = page.Next
	}
	return nil, workflow.NewContinueAsNewError(ctx, ReconcilePhotos, in)
}
