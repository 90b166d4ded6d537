package activities

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"gocloud.dev/gcerrors"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/renderer"
	"github.com/photo-processor/photo-processor/internal/source"
)

// Types of application errors that are not a failure of the photo. They are
// never stored on a photo, and so are not codes of photo.Failure.
const (
	// DatabaseUnavailable and StorageUnavailable are infrastructure errors.
	// They spend no retry budget: Temporal retries until PostgreSQL, the
	// thumbnails bucket or the worker's disk is back.
	DatabaseUnavailable = "database_unavailable"
	StorageUnavailable  = "storage_unavailable"
	// AttemptTimeout is an attempt that ran out of time. It spends no retry
	// budget, because the source and the renderer have shorter timeouts with
	// codes of their own.
	AttemptTimeout = "attempt_timeout"
	// HostBusy is an attempt that found no slot at the source's host. It ends, so
	// that a slow host does not take all slots of the worker, and spends no retry
	// budget.
	HostBusy = "host_busy"
	// WorkerStopped is an attempt that was still running SHUTDOWN_TIMEOUT after
	// its worker began to stop. It spends no retry budget.
	WorkerStopped = "worker_stopped"
	// Superseded ends a run that no longer owns its photo. Such a run writes no
	// status.
	Superseded = "superseded"
)

// ErrWorkerStops is the cause with which a stopping worker cancels the context
// of its activities.
var ErrWorkerStops = errors.New("the worker stops")

// storageError is an error of the thumbnails bucket or of the worker's disk.
type storageError struct {
	what string // thumbnailsBucket or sourceCacheDir
	err  error
}

const (
	thumbnailsBucket = "the thumbnails bucket"
	sourceCacheDir   = "the directory of the source cache" // SOURCE_CACHE_DIR
)

func (e *storageError) Error() string { return e.what + ": " + e.err.Error() }
func (e *storageError) Unwrap() error { return e.err }

// classify maps a Go error to a failure of the photo or to an error for
// Temporal. It returns either a failure and the error that caused it, whose
// text is for the log only, or nil and the error for Temporal. An error without
// a case here is a defect, and becomes a photo.Internal.
//
// The workflow matches errors by their type: errors.Is does not survive
// Temporal.
func classify(ctx context.Context, err error) (*photo.Failure, error) {
	if ctx.Err() != nil { // canceled, timed out, or the worker stops
		return nil, contextError(ctx)
	}
	if failure, ok := errors.AsType[*photo.Failure](err); ok {
		return failure, err
	}
	storage, isStorage := errors.AsType[*storageError](err)
	if unreadable, ok := errors.AsType[*renderer.SourceReadError](err); ok {
		storage, isStorage = &storageError{sourceCacheDir, unreadable}, true
	}
	switch {
	case errors.Is(err, photo.ErrNotFound):
		return photo.Fail(photo.NotFound, "%s", photo.ErrNotFound), err
	case errors.Is(err, photo.ErrSuperseded):
		return nil, temporal.NewNonRetryableApplicationError(photo.ErrSuperseded.Error(), Superseded, nil)
	case errors.Is(err, postgres.ErrUnavailable):
		return nil, outageError("PostgreSQL", DatabaseUnavailable, err)
	case errors.Is(err, source.ErrHostBusy):
		return nil, benignError("waiting for a slot: "+source.ErrHostBusy.Error()+"; Temporal retries", HostBusy, nil) // a large batch has thousands
	case isStorage:
		return nil, outageError(storage.what, StorageUnavailable, err)
	default:
		return photo.Fail(photo.Internal, "internal error; the worker's log has the details"), err
	}
}

// outageError returns the retryable error of an attempt that failed because a
// dependency was unavailable. logOutage logs it.
func outageError(what, code string, cause error) error {
	return benignError(what+" cannot be used; Temporal retries until it can", code, cause)
}

// benignError returns a retryable application error that the SDK does not log as
// an error.
func benignError(message, errorType string, cause error) error {
	return temporal.NewApplicationErrorWithOptions(message, errorType,
		temporal.ApplicationErrorOptions{Category: temporal.ApplicationErrorCategoryBenign, Cause: cause})
}

// logOutage logs an infrastructure error, at most once a minute for each cause:
// all photos of an outage have the same error.
func (a *Activities) logOutage(ctx context.Context, err error) {
	outage, ok := errors.AsType[*temporal.ApplicationError](err)
	if !ok || outage.Type() != DatabaseUnavailable && outage.Type() != StorageUnavailable {
		return
	}
	cause := outage.Unwrap()
	a.Outages.Do(fmt.Sprint(outage.Type(), postgres.SQLState(cause), gcerrors.Code(cause)), func() {
		a.Log.WarnContext(ctx, "the attempt failed because a dependency is unavailable; lines of other photos are omitted for a minute",
			"code", outage.Type(), "error", cause, "activity", activity.GetInfo(ctx).ActivityType.Name)
	})
}

// logFailure logs a failure of the photo: a defect as an error. If the failure
// is final and its message says all, the line "photo failed" suffices.
func (a *Activities) logFailure(ctx context.Context, failure *photo.Failure, err error, final bool) {
	level := slog.LevelWarn
	fromSource, isFromSource := errors.AsType[*source.Error](err)
	switch {
	case failure.Code == photo.Internal:
		level = slog.LevelError
	case final && err.Error() == failure.Message && (!isFromSource || fromSource.Cause == ""):
		level = slog.LevelDebug
	}
	attrs := []slog.Attr{
		slog.String("code", string(failure.Code)), slog.Any("error", err), slog.String("activity", activity.GetInfo(ctx).ActivityType.Name),
	}
	if panicked, ok := errors.AsType[*panicError](err); ok {
		attrs = append(attrs, slog.String("stack", string(panicked.stack)))
	}
	a.Log.LogAttrs(ctx, level, "the attempt failed", attrs...)
}

// panicError is a panic of an activity.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// contextError returns the error for an activity whose context has ended. A
// local activity needs an explicit timeout or cancellation error: the SDK makes
// one only if it notices the end of the context before the activity returns.
func contextError(ctx context.Context) error {
	isLocal, timedOut := activity.GetInfo(ctx).IsLocalActivity, errors.Is(ctx.Err(), context.DeadlineExceeded)
	switch {
	case isLocal && timedOut:
		return temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_START_TO_CLOSE, nil)
	case isLocal:
		return temporal.NewCanceledError()
	case timedOut:
		return temporal.NewApplicationErrorWithCause("the attempt ran out of time; Temporal retries", AttemptTimeout, ctx.Err())
	case errors.Is(context.Cause(ctx), ErrWorkerStops):
		return benignError("the worker stops; Temporal retries on another one", WorkerStopped, nil) // a normal stop
	default:
		return ctx.Err()
	}
}

// failureError returns the application error of a photo's failure. It is
// benign, so that the SDK does not log it: logFailure does, with the details.
func failureError(failure *photo.Failure, nonRetryable bool) error {
	return temporal.NewApplicationErrorWithOptions(failure.Message, failure.Code.ErrorType(), temporal.ApplicationErrorOptions{
		NonRetryable:   nonRetryable,
		NextRetryDelay: failure.RetryAfter,
		Category:       temporal.ApplicationErrorCategoryBenign,
	})
}

// retryableError returns the error of an activity that is no step of a photo; nil
// if err is nil. Temporal retries it without end, also if it is a defect: no photo
// may be lost for that.
func (a *Activities) retryableError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	failure, err := classify(ctx, err)
	if failure == nil {
		a.logOutage(ctx, err)
		return err
	}
	a.logFailure(ctx, failure, err, false)
	return failureError(failure, false)
}

// waitError returns the error of an activity that waits for something: Temporal
// retries it after the delay.
func waitError(message, errorType string, delay time.Duration) error {
	return temporal.NewApplicationErrorWithOptions(message, errorType,
		temporal.ApplicationErrorOptions{Category: temporal.ApplicationErrorCategoryBenign, NextRetryDelay: delay})
}
