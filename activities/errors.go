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
	// DatabaseUnavailable and photo.StorageUnavailable are outlasted: Temporal
	// retries for as long as it takes.
	DatabaseUnavailable = "database_unavailable"
	// Superseded ends a run that a newer one has taken over from. It has
	// nothing more to say about the photo.
	Superseded = "superseded"
	// Slow is what the first attempt says of a source that keeps it waiting for
	// longer than FirstFetchTimeout, and when it is not the first: an activity that
	// Temporal hands out takes the time that it takes, and is counted.
	Slow = "slow"
)

// storageError marks what a bucket or a disk of ours answered.
type storageError struct {
	what string // one of those below
	err  error
}

const (
	thumbnailsBucket = "the thumbnails bucket"
	spoolDir         = "the directory for sources that are being processed" // SPOOL_DIR
)

func (e *storageError) Error() string { return e.what + ": " + e.err.Error() }
func (e *storageError) Unwrap() error { return e.err }

var (
	// errSlow is why a first attempt's fetch ended before its time.
	errSlow = errors.New("the source takes its time")
	// errLate is why it did not begin.
	errLate = errors.New("the first attempt was begun before")
)

// applicationError is the one table from our errors to Temporal's. errors.Is
// does not survive the way through Temporal; the type does. An error that the
// table does not know is a defect: its details go to the log.
func (a *Activities) applicationError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil { // cancelled, timed out, or the worker stops: Temporal knows which
		if !activity.GetInfo(ctx).IsLocalActivity {
			return ctx.Err()
		}
		// Of a local activity only the SDK does, and only if it is quicker than we.
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_START_TO_CLOSE, nil)
		}
		return temporal.NewCanceledError()
	}
	failure, isFailure := errors.AsType[*photo.Failure](err)
	storage, isStorage := errors.AsType[*storageError](err)
	if unreadable, ok := errors.AsType[*renderer.SourceError](err); ok {
		storage, isStorage = &storageError{spoolDir, unreadable}, true
	}
	switch {
	case isFailure:
	case errors.Is(err, photo.ErrNotFound):
		failure = photo.Fail(photo.NotFound, "%s", photo.ErrNotFound)
	case errors.Is(err, photo.ErrSuperseded):
		return temporal.NewNonRetryableApplicationError(photo.ErrSuperseded.Error(), Superseded, nil)
	case errors.Is(err, errSlow), errors.Is(err, errLate):
		return temporal.NewApplicationErrorWithOptions(err.Error(), Slow,
			temporal.ApplicationErrorOptions{NonRetryable: true, Category: temporal.ApplicationErrorCategoryBenign})
	case errors.Is(err, postgres.ErrUnavailable):
		return temporal.NewApplicationErrorWithCause("PostgreSQL cannot be reached; trying until it can", DatabaseUnavailable, err)
	case isStorage:
		return temporal.NewApplicationErrorWithCause(storage.what+" cannot be used; trying until it can", string(photo.StorageUnavailable), err)
	default:
		failure = photo.Fail(photo.Internal, "internal error; the worker's log has the details")
	}
	// One line for each failure, with what only the log may know of it. Failures
	// of photos are daily business: benign errors are not logged by the SDK too.
	info := activity.GetInfo(ctx)
	a.Log.WarnContext(ctx, "the attempt failed", "code", failure.Code, "error", err,
		"activity", info.ActivityType.Name, "activity_attempt", info.Attempt)
	category := temporal.ApplicationErrorCategoryBenign
	if failure.Code == photo.Internal {
		category = temporal.ApplicationErrorCategoryUnspecified
	}
	return temporal.NewApplicationErrorWithOptions(failure.Message, failure.Code.ErrorType(), temporal.ApplicationErrorOptions{
		NonRetryable:   !failure.Code.Retryable(),
		NextRetryDelay: failure.RetryAfter,
		Category:       category,
	})
}
