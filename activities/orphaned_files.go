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

// thumbnailPrefix returns the common prefix of the keys of a photo's
// thumbnails.
func thumbnailPrefix(id uuid.UUID) string { return id.String() + "/" }

// deleteOrphanedFiles deletes the photo's files that no row refers to. It holds
// a lock on the photo's row, and does nothing while the photo is processing, so
// that it never deletes a file whose row is about to be written.
func (a *Activities) deleteOrphanedFiles(ctx context.Context, id uuid.UUID) error {
	err := a.DB.WithPhotoLocked(ctx, id, func(locked postgres.LockedPhoto) error {
		if locked.Status == photo.Processing {
			return nil // the owner deletes them when it finishes
		}
		return a.removeThumbnails(ctx, id, locked.Keys...)
	})
	if errors.Is(err, photo.ErrNotFound) { // every file of a deleted photo is orphaned
		return a.removeThumbnails(ctx, id)
	}
	return err
}

// removeThumbnails deletes the photo's files, except those with the keys to
// keep.
func (a *Activities) removeThumbnails(ctx context.Context, id uuid.UUID, keep ...string) error {
	keys, err := a.listThumbnails(ctx, id)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if slices.Contains(keep, key) {
			continue
		}
		err := a.callBucket(ctx, func(ctx context.Context) error { return a.Thumbnails.Delete(ctx, key) })
		if err != nil && gcerrors.Code(err) != gcerrors.NotFound {
			return err
		}
	}
	return nil
}

// listThumbnails returns the keys of the photo's files.
func (a *Activities) listThumbnails(ctx context.Context, id uuid.UUID) (keys []string, err error) {
	err = a.callBucket(ctx, func(ctx context.Context) error {
		for iter := a.Thumbnails.List(&blob.ListOptions{Prefix: thumbnailPrefix(id)}); ; {
			object, err := iter.Next(ctx)
			if errors.Is(err, io.EOF) {
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

// callBucket makes a request to the thumbnails bucket, within BucketTimeout.
// Its errors are *storageError.
func (a *Activities) callBucket(ctx context.Context, request func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, a.BucketTimeout)
	defer cancel()
	if err := request(ctx); err != nil {
		return &storageError{thumbnailsBucket, err}
	}
	return nil
}
