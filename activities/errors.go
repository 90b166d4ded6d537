package activities

import (
	"context"
	"errors"

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
	// OriginalMissing says that the staged source is gone, as when a disk was
	// lost: fetch it again.
	OriginalMissing = "original_missing"
)

// storageError marks what a bucket answered.
type storageError struct{ err error }

func (e *storageError) Error() string { return e.err.Error() }
func (e *storageError) Unwrap() error { return e.err }

// applicationError is the one table from our errors to Temporal's. errors.Is
// does not survive the way through Temporal; the type does. An error that the
// table does not know is a defect: its details go to the log.
func (a *Activities) applicationError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil { // cancelled, timed out, or the worker stops: Temporal knows which
		return ctx.Err()
	}
	failure, isFailure := errors.AsType[*photo.Failure](err)
	made, isMade := errors.AsType[*temporal.ApplicationError](err)
	_, isStorage := errors.AsType[*storageError](err)
	_, isUnreadable := errors.AsType[*renderer.SourceError](err) // of a bucket, too
	switch {
	case isFailure:
	case isMade: // by the activity itself
		return made
	case errors.Is(err, photo.ErrNotFound):
		failure = photo.Fail(photo.NotFound, "%s", photo.ErrNotFound)
	case errors.Is(err, photo.ErrSuperseded):
		return temporal.NewNonRetryableApplicationError(photo.ErrSuperseded.Error(), Superseded, nil)
	case errors.Is(err, postgres.ErrUnavailable):
		return temporal.NewApplicationErrorWithCause("PostgreSQL cannot be reached; trying until it can", DatabaseUnavailable, err)
	case isStorage, isUnreadable:
		return temporal.NewApplicationErrorWithCause("the bucket cannot be used; trying until it can", string(photo.StorageUnavailable), err)
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
