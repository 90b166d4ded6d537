package activities

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/google/uuid"
	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
)

// thumbnailPrefix starts the keys of a photo's thumbnails: a folder of its own.
func thumbnailPrefix(id uuid.UUID) string { return id.String() + "/" }

// originalPrefix starts the keys of what a photo's runs staged. The folders
// are 256 in all, because a bucket of files keeps its empty ones for ever.
func originalPrefix(id uuid.UUID) string { return id.String()[:2] + "/" + id.String() + "." }

// sweep removes the photo's files that nothing needs: thumbnails that no row
// names, and staged originals. It works while the photo's row is locked, and
// only for the owner or where no run is under way, so that it can never remove
// a thumbnail that another run has written and is about to record.
func (a *Activities) sweep(ctx context.Context, run photo.Run) error {
	err := a.DB.WithPhotoLocked(ctx, run.Photo, func(held postgres.Locked) error {
		underWay := held.Status == photo.Processing
		if underWay && held.RunID != run.ID {
			return nil // the newer run sweeps when it is done
		}
		if err := a.remove(ctx, a.Thumbnails, thumbnailPrefix(run.Photo), held.Keys...); err != nil || underWay {
			return err
		}
		return a.dropOriginals(ctx, run.Photo)
	})
	if errors.Is(err, photo.ErrNotFound) { // the row was deleted: no file is needed
		return errors.Join(a.remove(ctx, a.Thumbnails, thumbnailPrefix(run.Photo)), a.dropOriginals(ctx, run.Photo))
	}
	return err
}

// dropOriginals removes all that was staged for the photo, also half-written
// files of a worker that was killed. It needs no lock: should a newer run have
// staged its source already, that run fetches again.
func (a *Activities) dropOriginals(ctx context.Context, id uuid.UUID) error {
	return a.remove(ctx, a.Originals, originalPrefix(id))
}

// remove deletes what has the prefix in the bucket, but for the keys to keep.
func (a *Activities) remove(ctx context.Context, bucket *blob.Bucket, prefix string, keep ...string) error {
	keys, err := a.list(ctx, bucket, prefix)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if slices.Contains(keep, key) {
			continue
		}
		err := a.askBucket(ctx, func(ctx context.Context) error { return bucket.Delete(ctx, key) })
		if err != nil && gcerrors.Code(err) != gcerrors.NotFound {
			return err
		}
	}
	return nil
}

// list gives the keys in the bucket that have the prefix.
func (a *Activities) list(ctx context.Context, bucket *blob.Bucket, prefix string) (keys []string, err error) {
	err = a.askBucket(ctx, func(ctx context.Context) error {
		for iter := bucket.List(&blob.ListOptions{Prefix: prefix}); ; {
			object, err := iter.Next(ctx)
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			keys = append(keys, object.Key)
		}
	})
	return keys, err
}

// askBucket makes a request to a bucket, and marks its error as the bucket's.
func (a *Activities) askBucket(ctx context.Context, request func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, a.BucketTimeout)
	defer cancel()
	if err := request(ctx); err != nil {
		return &storageError{err}
	}
	return nil
}
