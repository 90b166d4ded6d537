package workflows

import (
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/photo"
)

// Two kinds of things go wrong, and each has its own retries.
//
// What is ours (PostgreSQL or a bucket is away, a worker was lost) is no
// failure of the photo. Temporal retries the activity for as long as it takes,
// by the policies below, and shows what it waits for as a pending activity;
// the history does not grow.
//
// What is the photo's (its source answers 503, its picture kills the renderer)
// ends the photo after a number of attempts that depends on the failure. The
// attempt function below makes them, so that each has its place, and its
// error, in the history.
//
// The values are part of what a history records: changing a number of attempts
// or a backoff is a change of the workflow.

// maxAttempts is how many failures with the code it takes to end the photo; 1
// for codes that are not listed, which cannot go away by themselves.
var maxAttempts = map[photo.Code]int{
	// A source that restarts or sheds load is usually back within two minutes:
	// with the backoff below, five attempts span 80 seconds, or as much as its
	// Retry-After asks for.
	photo.SourceUnavailable: 5,
	photo.SourceTimeout:     5,
	// Once can be bad luck, such as memory that was short; twice is the picture.
	photo.RenderCrashed: 2,
	photo.RenderTimeout: 2,
	// A defect of ours; perhaps a deployment is just mending it.
	photo.Internal: 3,
}

const (
	// The pauses between the attempts of a photo: 2, 6, 18, 54 seconds.
	firstBackoff       = 2 * time.Second
	backoffCoefficient = 3
	maxBackoff         = time.Minute

	// maxWorkersLost is how many workers may be lost while they make thumbnails
	// of one photo, not counting the one that made the first attempt. One is a
	// deployment or a machine that died; five are a photo that takes the worker
	// with it.
	maxWorkersLost = 5
)

// outlast is Temporal's policy against outages of what is ours: without end,
// soon at first, then twice a minute, which is rare enough to let a database
// come back and soon enough for who waits.
var outlast = temporal.RetryPolicy{
	InitialInterval:    time.Second,
	BackoffCoefficient: 2,
	MaximumInterval:    30 * time.Second,
	MaximumAttempts:    0, // no limit
	NonRetryableErrorTypes: []string{ // the attempt function retries these
		string(photo.SourceUnavailable), string(photo.SourceTimeout),
		string(photo.RenderCrashed), string(photo.RenderTimeout), string(photo.Internal),
	},
}

// heartbeatTimeout is how soon a lost worker is noticed. Activities heartbeat
// every 5 seconds; six times that leaves room for a machine that swaps.
const heartbeatTimeout = 30 * time.Second

// makeOptions allow for SOURCE_TIMEOUT and RENDER_TIMEOUT, five minutes each at
// most, which the worker enforces, and for the waits until few enough others
// fetch from the same host and until a renderer is free. There is no
// schedule-to-start or schedule-to-close timeout: a photo waits as long as no
// worker is there, and then is processed. A lost worker is returned to the
// workflow, which counts: the photo may be the reason.
var makeOptions = workflow.ActivityOptions{
	StartToCloseTimeout: 30 * time.Minute,
	HeartbeatTimeout:    heartbeatTimeout,
	RetryPolicy:         notTimeouts(outlast),
	WaitForCancellation: true, // so that nothing is written after the final status
}

// notTimeouts adds to the policy's exceptions the names by which Temporal's
// server knows the time-outs of an activity.
func notTimeouts(policy temporal.RetryPolicy) *temporal.RetryPolicy {
	policy.NonRetryableErrorTypes = append(policy.NonRetryableErrorTypes[:len(policy.NonRetryableErrorTypes):len(policy.NonRetryableErrorTypes)],
		"TemporalTimeout:StartToClose", "TemporalTimeout:Heartbeat")
	return &policy
}

// firstOptions are for the first attempt at a photo, which is a local activity.
// Most photos need no other, and then one workflow task is all they cost Temporal:
// half of what it is with an activity that Temporal hands out. The activity bounds
// the fetch itself, by SOURCE_FIRST_TIMEOUT; the rest is RENDER_TIMEOUT, five
// minutes at most, and the waits for a renderer and for servers of ours. While it
// goes on for longer than a workflow task may, the SDK asks for another, and hears
// of a cancellation.
var firstOptions = workflow.LocalActivityOptions{
	StartToCloseTimeout: 10 * time.Minute,
	RetryPolicy:         &temporal.RetryPolicy{MaximumAttempts: 1},
}

// shortOptions bound a step that is one SQL statement. As a local activity it
// costs Temporal a fraction of a regular one.
var shortOptions = workflow.LocalActivityOptions{
	StartToCloseTimeout:    3 * time.Second,
	ScheduleToCloseTimeout: 5 * time.Second, // within a workflow task's 10 seconds, or the SDK asks for another
	RetryPolicy: &temporal.RetryPolicy{
		InitialInterval:    100 * time.Millisecond,
		BackoffCoefficient: 2,
		MaximumAttempts:    3,
	},
}

// longOptions are for the same step where PostgreSQL or a bucket is away.
var longOptions = workflow.ActivityOptions{
	StartToCloseTimeout: 30 * time.Second,
	RetryPolicy: &temporal.RetryPolicy{
		InitialInterval:    outlast.InitialInterval,
		BackoffCoefficient: outlast.BackoffCoefficient,
		MaximumInterval:    outlast.MaximumInterval,
	},
}

// executeShort runs a step that is usually over in milliseconds: as a local
// activity, and should that not succeed within seconds, as a regular one that
// is retried for as long as it takes, in everyone's sight.
func executeShort(ctx workflow.Context, summary string, activity, in, out any) error {
	err := executeLocal(ctx, shortOptions, summary, activity, in, out)
	if err == nil || isNonRetryable(err) {
		return err
	}
	return execute(ctx, longOptions, summary, activity, in, out)
}

// executeFirst runs the first attempt of a step as a local activity. It is to be
// handed over to a regular one, as the same attempt, if it failed for no fault of
// the photo's, would take long, or was canceled: if not the workflow was, the
// worker stops.
func executeFirst(ctx workflow.Context, summary string, activity, in, out any) (handOver bool, err error) {
	err = executeLocal(ctx, firstOptions, summary, activity, in, out)
	if temporal.IsCanceledError(err) {
		// Temporal would still give the worker the activity, which is lost there.
		timer := workflow.TimerOptions{Summary: "Wait until the worker has stopped"}
		if canceled := workflow.NewTimerWithOptions(ctx, workerStops, timer).Get(ctx, nil); canceled != nil {
			return false, canceled
		}
		return true, err
	}
	_, timedOut := errors.AsType[*temporal.TimeoutError](err)
	return isType(err, activities.Slow) || isOutage(err) || timedOut, err
}

// execute runs an activity to its end.
func execute(ctx workflow.Context, options workflow.ActivityOptions, summary string, activity, in, out any) error {
	options.Summary = summary
	return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), activity, in).Get(ctx, out)
}

// executeLocal runs a local one.
func executeLocal(ctx workflow.Context, options workflow.LocalActivityOptions, summary string, activity, in, out any) error {
	options.Summary = summary
	return workflow.ExecuteLocalActivity(workflow.WithLocalActivityOptions(ctx, options), activity, in).Get(ctx, out)
}

// workerStops is how long a worker that has cancelled what it does may go on to
// ask for tasks: twice what it gives itself.
const workerStops = 10 * time.Second

// isOutage is true where what is ours was away.
func isOutage(err error) bool {
	return isType(err, activities.DatabaseUnavailable) || isType(err, string(photo.StorageUnavailable))
}

// attempt runs one step of the photo until it succeeds, fails for good, or has
// failed as often as the failure allows.
func attempt(ctx workflow.Context, doing string, step func(ctx workflow.Context, attempt int) error) error {
	lost := 0
	failures := map[photo.Code]int{}
	for attempt, backoff := 1, firstBackoff; ; attempt++ {
		details := doing
		if attempt > 1 {
			details = fmt.Sprintf("%s, attempt %d", doing, attempt)
		}
		workflow.SetCurrentDetails(ctx, details)

		err := step(ctx, attempt)
		if isTimeout(err) {
			if lost++; lost < maxWorkersLost {
				continue // at once: it was not the photo's time that was lost
			}
			return err
		}
		failure := asFailure(err)
		if failure == nil {
			return nil
		}
		if failures[failure.Code]++; failures[failure.Code] >= maxAttempts[failure.Code] {
			return err
		}
		pause := max(backoff, failure.RetryAfter)
		backoff = min(backoff*backoffCoefficient, maxBackoff)
		workflow.SetCurrentDetails(ctx, fmt.Sprintf("%s: waiting %s after attempt %d: %s", doing, pause, attempt, failure.Message))
		timer := workflow.TimerOptions{Summary: fmt.Sprintf("Wait before attempt %d (%s)", attempt+1, failure.Code)}
		if err := workflow.NewTimerWithOptions(ctx, pause, timer).Get(ctx, nil); err != nil {
			return err
		}
	}
}

// asFailure tells what an error from a step means for the photo: nil if the
// step succeeded.
func asFailure(err error) *photo.Failure {
	if err == nil {
		return nil
	}
	if temporal.IsCanceledError(err) {
		return photo.Fail(photo.Canceled, "processing was canceled")
	}
	if isTimeout(err) {
		return photo.Fail(photo.RenderCrashed, "the worker was lost %d times while it made the thumbnails", maxWorkersLost)
	}
	if appErr, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		return &photo.Failure{Code: photo.Code(appErr.Type()), Message: appErr.Message(), RetryAfter: appErr.NextRetryDelay()}
	}
	return photo.Fail(photo.Internal, "internal error; the worker's log has the details")
}

func isType(err error, name string) bool {
	appErr, ok := errors.AsType[*temporal.ApplicationError](err)
	return ok && appErr.Type() == name
}

func isNonRetryable(err error) bool {
	appErr, ok := errors.AsType[*temporal.ApplicationError](err)
	return ok && appErr.NonRetryable()
}

// isTimeout is true where a worker began the activity and was not heard of again.
func isTimeout(err error) bool {
	timeout, ok := errors.AsType[*temporal.TimeoutError](err)
	return ok && (timeout.TimeoutType() == enumspb.TIMEOUT_TYPE_HEARTBEAT || timeout.TimeoutType() == enumspb.TIMEOUT_TYPE_START_TO_CLOSE)
}
