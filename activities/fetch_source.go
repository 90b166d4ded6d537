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

// FetchSourceInput names the run for which to fetch the photo's source.
type FetchSourceInput struct{ StepInput }

// WithLocalFailure returns the input of the regular activity.
func (in FetchSourceInput) WithLocalFailure(f *photo.Failure) any { in.LocalFailure = f; return in }

// FetchSourceResult describes the fetched source.
type FetchSourceResult struct {
	photo.SourceInfo
	Milliseconds int64 `json:"ms"` // duration of the fetch
}

// FetchSource fetches the photo's source, under the limits of internal/source,
// into this worker's source cache, from which MakeThumbnails reads it. It is
// idempotent: a source in the cache is not fetched again, and a fetch outlives
// its attempt, so that the next attempt on the same worker waits for the same
// fetch.
func (a *Activities) FetchSource(ctx context.Context, in FetchSourceInput) (*FetchSourceResult, error) {
	return runStep(ctx, a, in.StepInput, func(ctx context.Context, current *attempt) (*FetchSourceResult, error) {
		source, _, err := a.cachedSource(ctx, in.Run, current)
		if err != nil {
			return nil, err
		}
		defer source.Release()
		return &FetchSourceResult{SourceInfo: source.SourceInfo, Milliseconds: source.FetchDuration.Milliseconds()}, nil
	})
}

// cachedSource returns the photo's source from the cache, or fetches it. It is
// a hit if the source was in the cache or being fetched. The caller must
// release the source.
func (a *Activities) cachedSource(ctx context.Context, run photo.Run, current *attempt) (s *sourcecache.Source, hit bool, err error) {
	s, hit = a.Sources.Open(ctx, sourceKey(run), func(ctx context.Context, to *sourcecache.Source) error {
		start := time.Now()
		err := a.fetch(ctx, run, to)
		a.Metrics.countBytes(ctx, to.Received.Load())
		a.Metrics.recordStep(ctx, "fetch", start, err)
		return err
	})
	current.source.Store(s)
	if err := s.Wait(ctx); err != nil {
		s.Release()
		return nil, hit, err
	}
	return s, hit, nil
}

// sourceKey returns the source's key in the cache. It contains the run's start,
// because a run starts again after a lost workflow task: a fetch under the
// earlier start is fenced off and fails.
func sourceKey(run photo.Run) string { return fmt.Sprintf("%s/%d", run.ID, run.StartedAt.UnixNano()) }

// databaseTimeout bounds a statement whose context has a much later deadline.
// Without it, a dead connection is noticed only when TCP gives up, after 15
// minutes.
const databaseTimeout = 10 * time.Second

func (a *Activities) fetch(ctx context.Context, run photo.Run, to *sourcecache.Source) error {
	// The URL is read from the row, and never passes through Temporal, whose
	// histories are stored and shown: a URL may contain credentials. Reading it
	// also checks that the run owns the photo before the source gets a request.
	queryCtx, cancel := context.WithTimeout(ctx, databaseTimeout)
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
