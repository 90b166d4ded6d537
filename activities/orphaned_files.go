package activities

import (
	"context"
	"errors"
	"slices"

	"github.com/google/uuid"
	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// thumbnailPrefix returns the common prefix of the keys of a photo's
// thumbnails.
func thumbnailPrefix(id uuid.UUID) string { return id.String() + "/" }

// deleteOrphanedFiles deletes those of the photo's files that no row refers to,
// unless the photo is processing: then the owner deletes them when it finishes.
//
// The caller has listed the files before this call reads the rows. So a listed
// file without a row was written by a run that never owns the photo again. A
// later run writes under other keys (see thumbnailKey), so that no row can
// refer to the file while it is being deleted.
func (a *Activities) deleteOrphanedFiles(ctx context.Context, id uuid.UUID, files []string) error {
	if len(files) == 0 {
		return nil
	}
	status, keys, err := a.DB.ThumbnailKeys(ctx, id)
	if err != nil && !errors.Is(err, photo.ErrNotFound) { // every file of a deleted photo is orphaned
		return err
	}
	if status == photo.Processing {
		return nil
	}
	for _, key := range files {
		if slices.Contains(keys, key) {
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
		// Not Next, whose io.EOF is easily taken for that of a closed connection.
		objects, iterationError := a.Thumbnails.List(&blob.ListOptions{Prefix: thumbnailPrefix(id)}).All(ctx)
		for object := range objects {
			keys = append(keys, object.Key)
		}
		return iterationError()
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
