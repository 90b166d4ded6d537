package activities

import (
	"context"
	"fmt"
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

// Step is the part that the inputs of all four steps of a photo share.
type Step struct {
	Run photo.Run `json:"run"`
	// LocalFailure is the failure of the photo with which the step's local activity
	// ended. The regular activity's first attempt does not work: it reports this
	// failure, so that Temporal counts it, shows it, and waits before attempt 2.
	LocalFailure *photo.Failure `json:"local_failure,omitempty"`
}

// Progress is the heartbeat details of a step's regular activity. The Web UI
// shows them while the activity is pending, and Temporal hands those of one
// attempt to the next.
type Progress struct {
	BytesReceived int64 `json:"bytes_received,omitempty"` // of the source
	// Failures counts the failures of the photo so far by code: the spent part of
	// each code's retry budget. Infrastructure errors spend nothing.
	Failures map[photo.Code]int `json:"failures,omitempty"`
	// Reported is the last attempt that ended with an error of its own. The
	// attempts between it and the present one were lost with their workers.
	Reported int32 `json:"reported,omitempty"`
}

// maxLostWorkers is how many attempts in a row may be lost with their workers.
// One is a deployment or a machine that died; five are a photo that crashes the
// worker.
const maxLostWorkers = 5

const (
	// heartbeatInterval is how often a regular activity sends heartbeats; the
	// workflow's heartbeat timeout is six times that. A cancellation is noticed with
	// a heartbeat.
	heartbeatInterval = 5 * time.Second
	// firstHeartbeat is the delay before the first heartbeat, short so that the Web UI
	// soon shows one. A step that finishes sooner sends none.
	firstHeartbeat = 500 * time.Millisecond
	// reportTime is reserved at the end of an attempt for reporting that it timed out.
	reportTime = 5 * time.Second
)

// attempt is one attempt at a step.
type attempt struct {
	before Progress                           // of the attempts before
	source atomic.Pointer[sourcecache.Source] // that it waits for, if any
}

func (a *attempt) progress() any {
	progress := a.before
	if source := a.source.Load(); source != nil {
		progress.BytesReceived = source.Received.Load()
	}
	return progress
}

// runStep runs one attempt at a step of a photo, as a local or as a regular
// activity, and returns Temporal's error: see errors.go. A panic is an internal
// failure. The spent retry budgets and the lost workers are counted in the
// heartbeat details. A local activity has none; it is the first attempt.
func runStep[R any](ctx context.Context, a *Activities, in Step, do func(context.Context, *attempt) (R, error)) (result R, err error) {
	info := activity.GetInfo(ctx)
	ctx = withPhotoAttrs(ctx, in.Run, slog.Int("attempt", int(info.Attempt)))
	var now attempt
	a.readHeartbeat(ctx, &now.before)
	if info.Attempt-1-now.before.Reported >= maxLostWorkers {
		lost := photo.Fail(photo.RenderCrashed, "the worker was lost %d times while it processed the photo", maxLostWorkers)
		return result, failureError(lost, true)
	}
	failure := in.LocalFailure
	if failure == nil || now.before.Reported > 0 {
		result, failure, err = runAttempt(ctx, a, &now, do)
		if err == nil {
			return result, nil
		}
	}
	progress := Progress{Failures: maps.Clone(now.before.Failures), Reported: info.Attempt}
	if failure != nil {
		if progress.Failures == nil {
			progress.Failures = map[photo.Code]int{}
		}
		progress.Failures[failure.Code]++
		err = failureError(failure, progress.Failures[failure.Code] >= failure.Code.RetryBudget())
	}
	reportProgress(ctx, progress)
	return result, err
}

// readHeartbeat reads the heartbeat details of the attempt before, if there are any.
// What another version has written, and this one cannot read, is left out.
func (a *Activities) readHeartbeat(ctx context.Context, details any) {
	if !activity.HasHeartbeatDetails(ctx) {
		return
	}
	if err := activity.GetHeartbeatDetails(ctx, details); err != nil {
		a.Log.WarnContext(ctx, "the heartbeat details cannot be read; the attempt begins without", "error", err)
	}
}

// reportProgress hands the details to the next attempt: the SDK sends them before the
// error of this one. The context of a worker that stops would not let it.
func reportProgress(ctx context.Context, details any) {
	activity.RecordHeartbeat(context.WithoutCancel(ctx), details)
}

// runAttempt calls do, with heartbeats if the activity is a regular one, and
// classifies its error. A regular attempt stops shortly before the start-to-close
// timeout. After that timeout it could not report, and would count as a lost worker.
func runAttempt[R any](ctx context.Context, a *Activities, now *attempt, do func(context.Context, *attempt) (R, error)) (result R, failure *photo.Failure, err error) {
	info := activity.GetInfo(ctx)
	if !info.IsLocalActivity {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, info.Deadline.Add(-reportTime))
		defer cancel()
		stop := sendHeartbeats(ctx, now.progress)
		defer stop() // none comes after the one that reports how the attempt ended
	}
	if result, err = recoverPanic(ctx, a, now, do); err == nil {
		return result, nil, nil
	}
	failure, err = a.classifyAndLog(ctx, err)
	return result, failure, err
}

// recoverPanic calls do, and returns an error if it panics.
func recoverPanic[R any](ctx context.Context, a *Activities, now *attempt, do func(context.Context, *attempt) (R, error)) (result R, err error) {
	defer func() {
		if v := recover(); v != nil {
			a.Log.ErrorContext(ctx, "an activity panicked", "panic", v, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return do(ctx, now)
}

// sendHeartbeats sends heartbeats until the returned function is called, and has returned.
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
