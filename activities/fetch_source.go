package activities

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/source"
	"github.com/photo-processor/photo-processor/internal/sourcecache"
)

// FetchSourceInput says for which run to fetch the photo's source.
type FetchSourceInput struct{ Step }

// WithLocalFailure returns the input of the regular activity.
func (in FetchSourceInput) WithLocalFailure(f *photo.Failure) any { in.LocalFailure = f; return in }

// FetchSourceResult says what the photo's URL returned.
type FetchSourceResult struct {
	photo.SourceInfo
	Milliseconds int64 `json:"ms"` // that the fetch took
}

// FetchSource fetches the photo's source, under the limits of internal/source, into
// this worker's source cache, where MakeThumbnails finds it. It is idempotent: a
// source that the run has fetched already is not fetched again. An attempt waits for
// the fetch that an earlier one has begun on the same worker.
func (a *Activities) FetchSource(ctx context.Context, in FetchSourceInput) (*FetchSourceResult, error) {
	return runStep(ctx, a, in.Step, func(ctx context.Context, now *attempt) (*FetchSourceResult, error) {
		source, _, err := a.cachedSource(ctx, in.Run, now)
		if err != nil {
			return nil, err
		}
		defer source.Release()
		return &FetchSourceResult{SourceInfo: source.SourceInfo, Milliseconds: source.FetchDuration.Milliseconds()}, nil
	})
}

// cachedSource returns the photo's source from the cache, or fetches it; hit is true if
// it was there. The caller must release it.
func (a *Activities) cachedSource(ctx context.Context, run photo.Run, now *attempt) (s *sourcecache.Source, hit bool, err error) {
	s, hit = a.Sources.Open(ctx, sourceKey(run), func(ctx context.Context, to *sourcecache.Source) error {
		start := time.Now()
		err := a.fetch(ctx, run, to)
		a.Metrics.countBytes(ctx, to.Received.Load())
		a.Metrics.recordStep(ctx, "fetch", start, err)
		return err
	})
	now.source.Store(s)
	if err := s.Wait(ctx); err != nil {
		s.Release()
		return nil, hit, err
	}
	return s, hit, nil
}

// sourceKey is the source's key in the cache. It has the run's start: what an execution
// fetched whose workflow task was lost, another cannot use under its own fence.
func sourceKey(run photo.Run) string { return fmt.Sprintf("%s/%d", run.ID, run.StartedAt.UnixNano()) }

// databaseTimeout bounds a statement whose context has a much later deadline. Without
// it, a connection that fell silent would be noticed after a quarter of an hour.
const databaseTimeout = 10 * time.Second

func (a *Activities) fetch(ctx context.Context, run photo.Run, to *sourcecache.Source) error {
	// The URL is read from the row and never passes through Temporal, which keeps
	// and shows what it is given: a URL may carry credentials. And while PostgreSQL
	// is away, no source is asked.
	queryCtx, cancel := context.WithTimeout(ctx, databaseTimeout) // the fetch outlives attempts
	defer cancel()
	url, err := a.DB.SourceURL(queryCtx, run)
	if err != nil {
		return err
	}
	fetched, err := a.Fetcher.Fetch(ctx, url, to, to.Received.Store)
	if _, ok := errors.AsType[*source.WriteError](err); ok {
		return &storageError{sourceCacheDir, err}
	}
	if err != nil {
		return err
	}
	to.SourceInfo = photo.SourceInfo{Bytes: fetched.Bytes, SHA256: fetched.SHA256, MediaType: fetched.MediaType}
	return nil
}
