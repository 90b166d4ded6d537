package activities

import (
	"context"
	"log/slog"
	"maps"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/sourcecache"
)

// StepInput is the common part of the inputs of a photo's four steps.
type StepInput struct {
	Run photo.Run `json:"run"`
	// LocalFailure is the failure of the photo that the step's local activity
	// ended with; nil if there was none. The regular activity's first attempt
	// only reports this failure: Temporal counts it, shows it, and backs off
	// before attempt 2.
	LocalFailure *photo.Failure `json:"local_failure,omitempty"`
}

// Progress is the heartbeat details of a step's regular activity. The Web UI
// shows them while the activity is pending, and Temporal passes the last
// details of an attempt to the next attempt.
type Progress struct {
	BytesReceived int64 `json:"bytes_received,omitempty"` // of the source
	// Failures counts the failures of the photo by code: the spent part of each
	// code's retry budget. Infrastructure errors spend no budget.
	Failures map[photo.Code]int `json:"failures,omitempty"`
	// LastReportedAttempt is the number of the last attempt that reported its
	// error; 0 if none did. The attempts between it and the current one were
	// lost with their workers.
	LastReportedAttempt int32 `json:"reported,omitempty"`
}

// maxLostWorkers is the number of attempts in a row whose lost workers fail the
// photo. One lost worker is a deployment or a machine failure; after five, the
// photo most likely crashes the worker.
const maxLostWorkers = 5

const (
	// heartbeatInterval is the time between the heartbeats of a regular
	// activity; the workflow's heartbeat timeout is six times as long. An
	// activity learns of its cancellation from the response to a heartbeat.
	heartbeatInterval = 5 * time.Second
	// firstHeartbeat is the delay of the first heartbeat. It is short, so that
	// the Web UI soon shows progress; a shorter step sends no heartbeat.
	firstHeartbeat = 500 * time.Millisecond
	// attemptReserve is the time at the end of an attempt that is reserved for
	// reporting that the attempt timed out.
	attemptReserve = 5 * time.Second
)

// attempt is the state of one attempt at a step.
type attempt struct {
	previous Progress                           // of the attempts before
	source   atomic.Pointer[sourcecache.Source] // that the step uses; nil until it opens one
}

// progress returns the heartbeat details.
func (a *attempt) progress() any {
	progress := a.previous
	if source := a.source.Load(); source != nil {
		progress.BytesReceived = source.Received.Load()
	}
	return progress
}

// runStep runs one attempt at a step of a photo, in a local or a regular
// activity. It calls do, and turns its error or panic into an application
// error, which is non-retryable when it fails the photo. Heartbeat details
// carry the spent retry budgets and the count of lost workers from one regular
// attempt to the next.
func runStep[R any](ctx context.Context, a *Activities, in StepInput, do func(context.Context, *attempt) (R, error)) (result R, err error) {
	info := activity.GetInfo(ctx)
	ctx = withPhotoAttrs(ctx, in.Run, slog.Int("attempt", int(info.Attempt)))
	var current attempt
	a.readHeartbeat(ctx, &current.previous)
	lostWorkers := info.Attempt - 1 - current.previous.LastReportedAttempt
	if lostWorkers > 0 {
		a.logTakeover(ctx, int(lostWorkers))
	}
	if lostWorkers >= maxLostWorkers {
		lost := photo.Fail(photo.RenderCrashed, "the worker was lost %d times while it processed the photo", maxLostWorkers)
		return result, failureError(lost, true)
	}
	failure := in.LocalFailure
	onlyReports := failure != nil && current.previous.LastReportedAttempt == 0 // by the local activity
	if !onlyReports {
		result, failure, err = runAttempt(ctx, a, &current, do)
		if err == nil {
			return result, nil
		}
	}
	progress := Progress{Failures: maps.Clone(current.previous.Failures), LastReportedAttempt: info.Attempt}
	if failure != nil {
		if progress.Failures == nil {
			progress.Failures = map[photo.Code]int{}
		}
		progress.Failures[failure.Code]++
		final := progress.Failures[failure.Code] >= failure.Code.RetryBudget()
		if !onlyReports {
			a.logFailure(ctx, failure, err, final)
		}
		err = failureError(failure, final)
	} else {
		a.logOutage(ctx, err)
	}
	reportProgress(ctx, progress)
	return result, err
}

// logTakeover logs that this worker processes a photo whose run another worker
// has begun. lost is how many workers in a row did not report how their attempt
// ended.
func (a *Activities) logTakeover(ctx context.Context, lost int) {
	a.Log.WarnContext(ctx, "the photo is taken over from a lost worker", "activity", activity.GetInfo(ctx).ActivityType.Name, "lost_workers", lost)
}

// readHeartbeat decodes the heartbeat details of the previous attempt into
// details. Details that are missing, or that another version wrote in another
// format, leave it unchanged.
func (a *Activities) readHeartbeat(ctx context.Context, details any) {
	if !activity.HasHeartbeatDetails(ctx) {
		return
	}
	if err := activity.GetHeartbeatDetails(ctx, details); err != nil {
		a.Log.WarnContext(ctx, "the previous attempt's heartbeat details cannot be decoded; the attempt starts without them", "error", err)
	}
}

// reportProgress records the heartbeat details for the next attempt; the SDK
// sends them before the error of this attempt. The context may have been
// canceled, by a worker that stops, and the SDK sends no heartbeat of a
// canceled context.
func reportProgress(ctx context.Context, details any) {
	activity.RecordHeartbeat(context.WithoutCancel(ctx), details)
}

// runAttempt calls do and classifies its error. A regular activity sends
// heartbeats meanwhile, and its context ends attemptReserve before the
// start-to-close timeout: an attempt that reaches the timeout cannot report,
// and would count as a lost worker.
func runAttempt[R any](ctx context.Context, a *Activities, current *attempt, do func(context.Context, *attempt) (R, error)) (result R, failure *photo.Failure, err error) {
	info := activity.GetInfo(ctx)
	if !info.IsLocalActivity {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, info.Deadline.Add(-attemptReserve))
		defer cancel()
		stop := sendHeartbeats(ctx, current.progress)
		defer stop() // before reportProgress, whose details must be the last
	}
	if result, err = recoverPanic(ctx, current, do); err == nil {
		return result, nil, nil
	}
	failure, err = classify(ctx, err)
	return result, failure, err
}

// recoverPanic calls do, and returns a panic as a *panicError.
func recoverPanic[R any](ctx context.Context, current *attempt, do func(context.Context, *attempt) (R, error)) (result R, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{v, debug.Stack()}
		}
	}()
	return do(ctx, current)
}

// sendHeartbeats sends heartbeats in the background. The returned function
// stops that, and waits until a heartbeat that is being sent has been sent.
func sendHeartbeats(ctx context.Context, details func() any) (stop func()) {
	done := make(chan struct{})
	var sender sync.WaitGroup
	sender.Go(func() {
		timer := time.NewTimer(firstHeartbeat)
		defer timer.Stop()
		for {
			select {
			case <-timer.C:
				activity.RecordHeartbeat(ctx, details())
				timer.Reset(heartbeatInterval)
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		sender.Wait()
	}
}
