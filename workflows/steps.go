package workflows

import (
	"errors"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/photo"
)

// Priorities of tasks. When more tasks wait than workers can take, Temporal hands
// out those with smaller numbers first; the default is 3.
var (
	PriorityFirst  = temporal.Priority{PriorityKey: 1} // the last steps of a photo, and short tasks on which others wait
	PrioritySingle = temporal.Priority{PriorityKey: 2} // photos posted singly, whose client may be waiting
	PriorityBatch  = temporal.Priority{PriorityKey: 4} // photos of a batch
)

// step is how one of a photo's four activities runs.
type step struct {
	summary string        // in the Web UI
	local   time.Duration // the longest that the local activity may take
	regular time.Duration // the longest that one attempt of the regular activity may take
	// priority is empty where the regular activity has the workflow's.
	priority temporal.Priority
}

// Together the local timeouts exceed the 10 seconds of a workflow task. The SDK then
// asks for another task, and later steps run as regular activities.
var (
	// One SQL statement takes milliseconds. A connection attempt may take 2 seconds.
	markProcessing = step{summary: "Mark the photo as processing", local: 3 * time.Second, regular: 30 * time.Second}
	// Most sources answer within a second; meanwhile the fetch keeps one of the few
	// slots for photos. On the same worker the regular
	// activity waits for that fetch, which SOURCE_TIMEOUT bounds, after its turn among
	// those from one host.
	fetchSource = step{summary: "Fetch the source from the photo's URL", local: 4 * time.Second, regular: 30 * time.Minute}
	// Most pictures take less than 0.1 seconds, the largest allowed a few. RENDER_TIMEOUT
	// bounds the regular activity's, after its turn among those of the worker.
	makeThumbnails = step{summary: "Make thumbnails of the source", local: 5 * time.Second, regular: 30 * time.Minute, priority: PriorityFirst}
	// One SQL statement, and one or a few requests to the bucket.
	finish = step{summary: "Record the final status", local: 3 * time.Second, regular: 5 * time.Minute, priority: PriorityFirst}
)

// localOptions are those of the step's local activity. Temporal does not see it
// before it has ended, so it is not retried.
func (s step) localOptions() workflow.LocalActivityOptions {
	return workflow.LocalActivityOptions{
		ScheduleToCloseTimeout: s.local,
		RetryPolicy:            &temporal.RetryPolicy{MaximumAttempts: 1},
		Summary:                s.summary,
	}
}

// regularOptions are those of the step's regular activity. There is no
// schedule-to-start or schedule-to-close timeout: a photo waits as long as there is
// no worker or no PostgreSQL, and is processed then.
func (s step) regularOptions() workflow.ActivityOptions {
	return workflow.ActivityOptions{
		StartToCloseTimeout: s.regular,
		HeartbeatTimeout:    heartbeatTimeout,
		WaitForCancellation: true, // so that nothing is written after the final status
		RetryPolicy:         &retryPolicy,
		Priority:            s.priority,
		Summary:             s.summary,
	}
}

// retryPolicy has no limit: infrastructure errors are retried until PostgreSQL, the
// bucket or a worker is back. A failure of the photo is retried until its retry budget
// is spent, after 2, 6, 18 and 54 seconds, or when Retry-After says.
var retryPolicy = temporal.RetryPolicy{
	InitialInterval:    2 * time.Second,
	BackoffCoefficient: 3,
	MaximumInterval:    time.Minute,
}

// heartbeatTimeout is how soon a lost worker is noticed. Activities send heartbeats
// every 5 seconds; six times that leaves room for a machine that swaps.
const heartbeatTimeout = 30 * time.Second

// writesNoStatus is true for the errors after which there is no status to write:
// the photo does not exist, or a newer run has it.
func writesNoStatus(err error) bool {
	return isType(err, photo.NotFound.ErrorType()) || isType(err, activities.Superseded)
}

// toFailure returns what a step's error means for the photo; nil if there is none.
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

// toLocalFailure returns the failure of the photo with which a local activity ended;
// nil if it was an infrastructure error, a timeout, or a worker that stopped.
func toLocalFailure(err error) *photo.Failure {
	appErr, ok := errors.AsType[*temporal.ApplicationError](err)
	if !ok || isType(err, activities.DatabaseUnavailable) || isType(err, activities.StorageUnavailable) {
		return nil
	}
	return &photo.Failure{Code: photo.Code(appErr.Type()), Message: appErr.Message(), RetryAfter: appErr.NextRetryDelay()}
}

func isType(err error, name string) bool {
	appErr, ok := errors.AsType[*temporal.ApplicationError](err)
	return ok && appErr.Type() == name
}

func isNonRetryable(err error) bool {
	appErr, ok := errors.AsType[*temporal.ApplicationError](err)
	return ok && appErr.NonRetryable()
}
