package activities

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"go.temporal.io/sdk/temporal"
	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/renderer"
)

// MakeThumbnailsInput says whose thumbnails to make, and from what.
type MakeThumbnailsInput struct {
	Run     photo.Run    `json:"run"`
	Source  photo.Source `json:"source"`
	Attempt int          `json:"attempt,omitempty"` // the workflow's own count, for the log alone
}

// MakeThumbnailsResult says what was made, for the reader of the history.
type MakeThumbnailsResult struct {
	Thumbnails []string `json:"thumbnails"` // sizes such as "320x213", the largest first
}

// MakeThumbnails renders the staged original, writes the files, and makes the
// photo's rows exactly those. Files that no row names any more are removed by
// Finish. It is idempotent: a file's key contains the digest of its content, so
// that another attempt writes the same; the rows are written in one
// transaction that only the owning run can make, after the files are there.
func (a *Activities) MakeThumbnails(ctx context.Context, in MakeThumbnailsInput) (*MakeThumbnailsResult, error) {
	ctx = about(ctx, in.Run, in.Attempt)
	made, err := a.makeThumbnails(ctx, in.Run, in.Source)
	if err != nil {
		return nil, a.applicationError(ctx, err)
	}
	return made, nil
}

func (a *Activities) makeThumbnails(ctx context.Context, run photo.Run, source photo.Source) (*MakeThumbnailsResult, error) {
	defer keepAlive(ctx, func() any { return nil })()

	pictures, err := a.Renderer.Render(ctx, renderer.Source{
		Size: source.Bytes,
		Open: func(ctx context.Context) (io.ReadCloser, error) { return a.openOriginal(ctx, source) },
	})
	if err != nil {
		return nil, err
	}
	thumbnails, err := a.writePictures(ctx, run, pictures)
	if err != nil {
		return nil, err
	}
	if err := a.DB.PublishThumbnails(ctx, run, source, thumbnails); err != nil {
		if errors.Is(err, photo.ErrSuperseded) {
			// What was just written may be in nobody's rows.
			err = errors.Join(err, a.sweep(ctx, run))
		}
		return nil, err
	}
	result := &MakeThumbnailsResult{}
	for _, t := range thumbnails {
		result.Thumbnails = append(result.Thumbnails, t.Size.String())
	}
	return result, nil
}

// openOriginal gives the staged bytes. A key that is gone, or that does not
// hold what was fetched, must be fetched again: the workflow does.
func (a *Activities) openOriginal(ctx context.Context, source photo.Source) (io.ReadCloser, error) {
	original, err := a.Originals.NewReader(ctx, source.Key, nil)
	missing := gcerrors.Code(err) == gcerrors.NotFound
	if err != nil && !missing {
		return nil, &storageError{err}
	}
	if !missing && original.Size() != source.Bytes {
		missing = true
		_ = original.Close()
	}
	if missing {
		return nil, temporal.NewNonRetryableApplicationError("the staged original is gone; it must be fetched again", OriginalMissing, nil)
	}
	return original, nil
}

// writePictures stores each picture under a key that its content decides.
func (a *Activities) writePictures(ctx context.Context, run photo.Run, pictures []photo.Picture) ([]photo.Thumbnail, error) {
	var thumbnails []photo.Thumbnail
	for _, p := range pictures {
		digest := sha256.Sum256(p.Bytes)
		key := fmt.Sprintf("%s%s-%s%s", thumbnailPrefix(run.Photo), p.Size, hex.EncodeToString(digest[:8]), a.Format.Extension())
		err := a.Thumbnails.WriteAll(ctx, key, p.Bytes, &blob.WriterOptions{
			ContentType:                 a.Format.MediaType(),
			DisableContentTypeDetection: true,
		})
		if err != nil {
			return nil, &storageError{err}
		}
		thumbnails = append(thumbnails, photo.Thumbnail{Size: p.Size, Key: key})
	}
	return thumbnails, nil
}
