package workflows

import (
	"errors"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/photo"
)

// Priorities of tasks. Temporal dispatches a backlog in the order of the
// priority keys, the smallest first. Keys are from 1 to 5; the default is 3.
var (
	// PriorityFirst is for the last two steps of a photo, which free its
	// source, for ReconcilePhotos, and for the workflows, and their short
	// activities, that start or delete photos.
	PriorityFirst = temporal.Priority{PriorityKey: 1}
	// PriorityInteractive is for the photos of a request with at most
	// START_DIRECTLY photos, whose client may be waiting, and for the photos
	// that the reconciler starts again.
	PriorityInteractive = temporal.Priority{PriorityKey: 2}
	// PriorityBatch is for the photos of a larger request, and for webhooks.
	PriorityBatch = temporal.Priority{PriorityKey: 4}
)

// activityNames is a nil pointer whose methods name the activities for
// Temporal.
var activityNames *activities.Activities

// step is one of a photo's four activities, with its options.
type step struct {
	activity       any               // method of activityNames
	summary        string            // shown by the Web UI
	localTimeout   time.Duration     // of the local activity, which has one attempt
	attemptTimeout time.Duration     // of one attempt of the regular activity
	priority       temporal.Priority // of the regular activity; the zero value inherits the workflow's
}

// The steps, in the order in which ProcessPhoto runs them. The local timeouts
// add up to more than the 10 seconds of a workflow task. The SDK then requests
// another task, in which the remaining steps run as regular activities.
var (
	// One SQL statement takes milliseconds; connecting may take 2 seconds.
	markProcessing = step{
		activity: activityNames.MarkProcessing, summary: "Mark the photo as processing",
		localTimeout: 3 * time.Second, attemptTimeout: 30 * time.Second,
	}
	// Most sources answer within a second. A local fetch occupies one of the
	// worker's few workflow task slots, so a slow one moves to the regular
	// activity, which waits for the same fetch if it runs on the same worker.
	// SOURCE_TIMEOUT bounds a fetch; the rest is waiting for other fetches from
	// the same host.
	fetchSource = step{
		activity: activityNames.FetchSource, summary: "Fetch the source from the photo's URL",
		localTimeout: 4 * time.Second, attemptTimeout: 30 * time.Minute,
	}
	// Most pictures take less than 0.1 seconds, the largest allowed a few
	// seconds. RENDER_TIMEOUT bounds a render; the rest is waiting for the
	// worker's other renders.
	makeThumbnails = step{
		activity: activityNames.MakeThumbnails, summary: "Make thumbnails of the source",
		localTimeout: 5 * time.Second, attemptTimeout: 30 * time.Minute, priority: PriorityFirst,
	}
	// One SQL statement, and one or a few requests to the bucket.
	finish = step{
		activity: activityNames.Finish, summary: "Record the final status",
		localTimeout: 3 * time.Second, attemptTimeout: 5 * time.Minute, priority: PriorityFirst,
	}
)

// localOptions are the options of the step's local activity. It has one
// attempt: Temporal cannot show its retries, and the regular activity makes
// them.
func (s step) localOptions() workflow.LocalActivityOptions {
	return workflow.LocalActivityOptions{
		ScheduleToCloseTimeout: s.localTimeout,
		RetryPolicy:            &temporal.RetryPolicy{MaximumAttempts: 1},
		Summary:                s.summary,
	}
}

// regularOptions are the options of the step's regular activity. It has no
// schedule-to-start or schedule-to-close timeout: a photo waits for a worker or
// for PostgreSQL as long as the outage lasts.
func (s step) regularOptions() workflow.ActivityOptions {
	return workflow.ActivityOptions{
		StartToCloseTimeout: s.attemptTimeout,
		HeartbeatTimeout:    heartbeatTimeout,
		WaitForCancellation: true, // the attempt must not write after the final status
		RetryPolicy:         &retryPolicy,
		Priority:            s.priority,
		Summary:             s.summary,
	}
}

// retryPolicy retries without limit, so that an infrastructure error never
// fails a photo. The backoff is 2, 6, 18 and 54 seconds, then a minute; a
// Retry-After of the source replaces it. The activity ends the retries of a
// failure of the photo, with a non-retryable error, when the retry budget is
// spent.
var retryPolicy = temporal.RetryPolicy{
	InitialInterval:    2 * time.Second,
	BackoffCoefficient: 3,
	MaximumInterval:    time.Minute,
}

// heartbeatTimeout is how long Temporal waits for a heartbeat before it counts
// the worker as lost. Activities send one every 5 seconds; six times that
// leaves room for a machine that swaps.
const heartbeatTimeout = 30 * time.Second

// isNotOwner reports whether the error means that the run does not own the
// photo: the photo does not exist, or a newer run owns it.
func isNotOwner(err error) bool {
	return hasType(err, photo.NotFound.ErrorType()) || hasType(err, activities.Superseded)
}

// toFailure returns the failure of the photo that a step's error amounts to;
// nil if err is nil.
func toFailure(err error) *photo.Failure {
	if err == nil {
		return nil
	}
	if temporal.IsCanceledError(err) {
		return photo.Fail(photo.Canceled, "processing was canceled")
	}
	if appErr, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		return &photo.Failure{Code: photo.Code(appErr.Type()), Message: appErr.Message()}
	}
	return photo.Fail(photo.Internal, "internal error; the worker's log has the details")
}

// toLocalFailure returns the failure of the photo that a local activity ended
// with; nil for an infrastructure error, a busy host, a timeout, or a worker
// that stopped.
func toLocalFailure(err error) *photo.Failure {
	appErr, ok := errors.AsType[*temporal.ApplicationError](err)
	if !ok || hasType(err, activities.DatabaseUnavailable) || hasType(err, activities.StorageUnavailable) || hasType(err, activities.HostBusy) {
		return nil
	}
	return &photo.Failure{Code: photo.Code(appErr.Type()), Message: appErr.Message(), RetryAfter: appErr.NextRetryDelay()}
}

func hasType(err error, name string) bool {
	appErr, ok := errors.AsType[*temporal.ApplicationError](err)
	return ok && appErr.Type() == name
}

func isNonRetryable(err error) bool {
	appErr, ok := errors.AsType[*temporal.ApplicationError](err)
	return ok && appErr.NonRetryable()
}
