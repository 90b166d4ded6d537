package activities

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/source"
)

// FinishInput is the outcome of a run.
type FinishInput struct {
	StepInput
	Thumbnails int            `json:"thumbnails"`        // number that MakeThumbnails published
	Failure    *photo.Failure `json:"failure,omitempty"` // nil: the photo is completed
}

// WithLocalFailure returns the input of the regular activity.
func (in FinishInput) WithLocalFailure(f *photo.Failure) any { in.LocalFailure = f; return in }

// FinishResult says what the workflow does next. It is nil if that is nothing.
type FinishResult struct {
	Notify           bool `json:"notify,omitempty"`            // post a webhook
	FailureAttribute bool `json:"failure_attribute,omitempty"` // set the search attribute PhotoFailure
}

// Finish removes the source from the cache, writes the photo's final status,
// and deletes the photo's orphaned files. It is idempotent: postgres.DB.Finish
// writes the status once, for a run that owns the photo or is newer than its
// owner, and a deleted file may be deleted again. Temporal retries Finish until
// no orphaned file is left.
func (a *Activities) Finish(ctx context.Context, in FinishInput) (*FinishResult, error) {
	a.Sources.Remove(sourceKey(in.Run))
	return runStep(ctx, a, in.StepInput, func(ctx context.Context, _ *attempt) (*FinishResult, error) {
		if err := a.finish(ctx, in); err != nil {
			return nil, err
		}
		result := FinishResult{Notify: a.Webhook != nil, FailureAttribute: a.HasFailureAttribute && in.Failure != nil}
		if result == (FinishResult{}) {
			return nil, nil
		}
		return &result, nil
	})
}

func (a *Activities) finish(ctx context.Context, in FinishInput) error {
	url, first, err := a.DB.Finish(ctx, in.Run, in.Failure)
	if first {
		a.reportFinished(ctx, in.Run, url, in.Failure)
	}
	if err != nil && !errors.Is(err, photo.ErrNotFound) { // the files of a deleted photo are orphaned
		return err
	}
	files, listErr := a.listThumbnails(ctx, in.Run.Photo)
	if listErr != nil {
		return listErr
	}
	if err == nil && in.Failure == nil && len(files) == in.Thumbnails {
		return nil // usually no file is orphaned, and the rows need not be read
	}
	return a.deleteOrphanedFiles(ctx, in.Run.Photo, files)
}

// reportFinished counts and logs a photo's final status, with the host of its
// source and the time since the run's start.
func (a *Activities) reportFinished(ctx context.Context, run photo.Run, url string, failure *photo.Failure) {
	a.Metrics.countFinished(ctx, failure)
	attrs := []slog.Attr{
		slog.String("source_host", source.Host(url)),
		slog.Duration("duration", time.Since(run.StartedAt).Round(time.Millisecond)),
	}
	message := "photo completed"
	if failure != nil {
		message = "photo failed"
		attrs = append(attrs, slog.String("code", string(failure.Code)), slog.String("message", failure.Message))
	}
	a.Log.LogAttrs(ctx, slog.LevelInfo, message, attrs...)
}
