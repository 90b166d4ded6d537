package activities

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/activity"
	"gocloud.dev/blob"

	"github.com/photo-processor/photo-processor/internal/bucket"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/source"
)

// FetchSourceInput says whose source to fetch. The URL is not in it: it may
// carry credentials, and histories are kept and shown.
type FetchSourceInput struct {
	Run photo.Run `json:"run"`
}

// FetchSource streams the photo's source into the originals bucket, under the
// limits of internal/source, and says what it was. It is idempotent: each
// attempt writes a key of its own, which appears whole or not at all, and
// Finish removes them all.
func (a *Activities) FetchSource(ctx context.Context, in FetchSourceInput) (*photo.Source, error) {
	fetched, err := a.fetchSource(ctx, in.Run)
	if err != nil {
		return nil, applicationError(ctx, err)
	}
	return fetched, nil
}

// accessible asks whether the bucket is there and lets us in.
func accessible(bucket *blob.Bucket) func(context.Context) error {
	return func(ctx context.Context) error {
		there, err := bucket.IsAccessible(ctx)
		if err == nil && !there {
			return errors.New("there is no such bucket")
		}
		return err
	}
}

// boundedWriter drops what is written when one call takes too long: the bucket
// does not answer any more. Any call may have to wait for it, since an object store
// is sent a source in parts.
type boundedWriter struct {
	io.WriteCloser
	timeout time.Duration
	drop    func()
}

func (w *boundedWriter) Write(p []byte) (int, error) {
	defer time.AfterFunc(w.timeout, w.drop).Stop()
	return w.WriteCloser.Write(p)
}

func (w *boundedWriter) Close() error {
	defer time.AfterFunc(w.timeout, w.drop).Stop()
	return w.WriteCloser.Close()
}

func (a *Activities) fetchSource(ctx context.Context, run photo.Run) (*photo.Source, error) {
	var received atomic.Int64
	defer keepAlive(ctx, func() any { return map[string]int64{"bytes_received": received.Load()} })()

	url, err := a.DB.SourceURL(ctx, run)
	if err != nil {
		return nil, err
	}
	attempt := activity.GetInfo(ctx).Attempt
	if attempt > 1 {
		// Perhaps the bucket was away. An object store tells only who writes, which
		// is when the source has been fetched: it is spared until the bucket is back.
		if err := a.askBucket(ctx, accessible(a.Originals)); err != nil {
			return nil, err
		}
	}
	key := fmt.Sprintf("%s%s-%d", originalPrefix(run.Photo), run.ID, attempt)

	// Cancelling the writer's context is how blob is told to drop what was
	// written so far.
	writing, drop := context.WithCancel(ctx)
	defer drop()
	blobWriter, err := bucket.NewWriter(writing, a.Originals, key)
	if err != nil {
		return nil, &storageError{err}
	}
	writer := &boundedWriter{blobWriter, a.BucketTimeout, drop}
	fetched, err := a.Fetcher.Fetch(ctx, url, writer, received.Store)
	if err != nil {
		drop()
		_ = writer.Close() // reports the drop
		if _, ok := errors.AsType[*source.WriteError](err); ok {
			err = &storageError{err}
		}
		return nil, err
	}
	if err := writer.Close(); err != nil {
		return nil, &storageError{err}
	}
	return &photo.Source{Key: key, Bytes: fetched.Bytes, SHA256: fetched.SHA256, MediaType: fetched.MediaType}, nil
}
