package activities

import (
	"context"
	"errors"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/renderer"
)

// Types of application errors that are no failure of the photo, beside the
// codes of photo.Failure.
const (
	// DatabaseUnavailable and StorageUnavailable are infrastructure errors: they
	// spend no retry budget, and Temporal retries until PostgreSQL, the thumbnails
	// bucket or the disk is back.
	DatabaseUnavailable = "database_unavailable"
	StorageUnavailable  = "storage_unavailable"
	// AttemptTimeout is the type of an attempt that ran out of time. It spends no retry
	// budget: source and renderer have shorter timeouts, with codes of their own.
	AttemptTimeout = "attempt_timeout"
	// Superseded ends a run that a newer run has taken the photo from. It writes no
	// status.
	Superseded = "superseded"
)

// storageError marks what a bucket or a disk of ours answered.
type storageError struct {
	what string // one of those below
	err  error
}

const (
	thumbnailsBucket = "the thumbnails bucket"
	sourceCacheDir   = "the directory of the source cache" // SOURCE_CACHE_DIR
)

func (e *storageError) Error() string { return e.what + ": " + e.err.Error() }
func (e *storageError) Unwrap() error { return e.err }

// classify is the one table from Go's errors to Temporal's. Only the type of an
// application error survives the way through Temporal, so that the workflow cannot use
// errors.Is. It returns either the failure of the photo, with the error that only the
// log may show, or nil and the error for Temporal. An error that the table does not have
// is a defect.
func classify(ctx context.Context, err error) (*photo.Failure, error) {
	if ctx.Err() != nil { // cancelled, timed out, or the worker stops: Temporal knows which
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
		return nil, temporal.NewApplicationErrorWithCause("PostgreSQL cannot be reached; trying until it can", DatabaseUnavailable, err)
	case isStorage:
		return nil, temporal.NewApplicationErrorWithCause(storage.what+" cannot be used; trying until it can", StorageUnavailable, err)
	default:
		return photo.Fail(photo.Internal, "internal error; the worker's log has the details"), err
	}
}

// classifyAndLog is classify, with one line in the log for a failure.
func (a *Activities) classifyAndLog(ctx context.Context, err error) (*photo.Failure, error) {
	failure, err := classify(ctx, err)
	if failure != nil {
		a.Log.WarnContext(ctx, "the attempt failed", "code", failure.Code, "error", err, "activity", activity.GetInfo(ctx).ActivityType.Name)
	}
	return failure, err
}

// contextError says why the activity's context ended. For local activities the SDK does
// so only if it notices before the activity returns.
func contextError(ctx context.Context) error {
	isLocal, timedOut := activity.GetInfo(ctx).IsLocalActivity, errors.Is(ctx.Err(), context.DeadlineExceeded)
	switch {
	case isLocal && timedOut:
		return temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_START_TO_CLOSE, nil)
	case isLocal:
		return temporal.NewCanceledError()
	case timedOut:
		return temporal.NewApplicationErrorWithCause("the attempt ran out of time; trying again", AttemptTimeout, ctx.Err())
	default:
		return ctx.Err()
	}
}

// failureError is the application error of a photo's failure. Failures are
// everyday: the SDK does not log benign errors, and classifyAndLog has.
func failureError(failure *photo.Failure, nonRetryable bool) error {
	category := temporal.ApplicationErrorCategoryBenign
	if failure.Code == photo.Internal {
		category = temporal.ApplicationErrorCategoryUnspecified
	}
	return temporal.NewApplicationErrorWithOptions(failure.Message, failure.Code.ErrorType(), temporal.ApplicationErrorOptions{
		NonRetryable:   nonRetryable,
		NextRetryDelay: failure.RetryAfter,
		Category:       category,
	})
}
