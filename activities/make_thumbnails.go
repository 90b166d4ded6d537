package activities

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/activity"
	"gocloud.dev/blob"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// MakeThumbnailsInput says for which run to make the photo's thumbnails.
type MakeThumbnailsInput struct{ Step }

// WithLocalFailure returns the input of the regular activity.
func (in MakeThumbnailsInput) WithLocalFailure(f *photo.Failure) any { in.LocalFailure = f; return in }

// MakeThumbnailsResult says what was made of what, for the reader of the history.
type MakeThumbnailsResult struct {
	Thumbnails   []string `json:"thumbnails"` // their sizes, such as "320x213", the largest first
	Milliseconds int64    `json:"ms"`         // that rendering and storing them took
	// Source is what the thumbnails were made of. It differs from the result of
	// FetchSource if the source was fetched again and had changed.
	Source       photo.SourceInfo `json:"source"`
	FetchedAgain bool             `json:"fetched_again,omitempty"`
}

// MakeThumbnails renders the photo's source, writes the files, and makes the
// photo's rows exactly those. It takes the source from this worker's cache, and
// fetches it again if it is not there: facts and thumbnails are always those of the
// bytes that were rendered. Files that no row names any more are removed by Finish.
//
// It is idempotent: a file's key contains the digest of its content, so that
// another attempt writes the same; the rows are written in one transaction that
// only the owning run can make, after the files are there.
func (a *Activities) MakeThumbnails(ctx context.Context, in MakeThumbnailsInput) (*MakeThumbnailsResult, error) {
	return runStep(ctx, a, in.Step, func(ctx context.Context, now *attempt) (*MakeThumbnailsResult, error) {
		return a.makeThumbnails(ctx, in.Run, now)
	})
}

func (a *Activities) makeThumbnails(ctx context.Context, run photo.Run, now *attempt) (*MakeThumbnailsResult, error) {
	if !activity.GetInfo(ctx).IsLocalActivity {
		// Perhaps the bucket was away, which the local attempt found only after it had
		// rendered: neither the source nor the CPU is used before it is back.
		if err := a.callBucket(ctx, a.checkBucket); err != nil {
			return nil, err
		}
	}
	source, hit, err := a.cachedSource(ctx, run, now)
	a.Metrics.countLookup(ctx, hit)
	if err != nil {
		return nil, err
	}
	defer source.Release()

	start := time.Now()
	pictures, err := a.Renderer.Render(ctx, source.ForRenderer())
	a.Metrics.recordStep(ctx, "render", start, err)
	if err != nil {
		return nil, err
	}
	thumbnails, err := a.publish(ctx, run, source.SourceInfo, pictures)
	if err != nil {
		return nil, err
	}
	a.Sources.Remove(sourceKey(run))
	result := &MakeThumbnailsResult{Source: source.SourceInfo, FetchedAgain: !hit, Milliseconds: time.Since(start).Milliseconds()}
	for _, t := range thumbnails {
		result.Thumbnails = append(result.Thumbnails, t.Size.String())
	}
	return result, nil
}

// publish writes the files and then the rows.
func (a *Activities) publish(ctx context.Context, run photo.Run, source photo.SourceInfo, pictures []photo.Picture) ([]photo.Thumbnail, error) {
	thumbnails, err := a.writePictures(ctx, run, pictures)
	if err == nil {
		queryCtx, cancel := context.WithTimeout(ctx, databaseTimeout)
		defer cancel()
		err = a.DB.PublishThumbnails(queryCtx, run, source, thumbnails)
	}
	if errors.Is(err, photo.ErrSuperseded) || ctx.Err() != nil {
		// The run may have ended without this attempt, so that no row names the files.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.BucketTimeout)
		defer cancel()
		err = errors.Join(err, a.sweep(ctx, run.Photo))
	}
	return thumbnails, err
}

// checkBucket fails unless there is a bucket that lets the worker in.
func (a *Activities) checkBucket(ctx context.Context) error {
	accessible, err := a.Thumbnails.IsAccessible(ctx)
	if err == nil && !accessible {
		err = errors.New("there is no such bucket")
	}
	return err
}

// writePictures stores each picture under a key that its content decides.
func (a *Activities) writePictures(ctx context.Context, run photo.Run, pictures []photo.Picture) ([]photo.Thumbnail, error) {
	var thumbnails []photo.Thumbnail
	for _, p := range pictures {
		digest := sha256.Sum256(p.Bytes)
		key := fmt.Sprintf("%s%s-%s%s", thumbnailPrefix(run.Photo), p.Size, hex.EncodeToString(digest[:8]), a.Format.Extension())
		err := a.callBucket(ctx, func(ctx context.Context) error {
			return a.Thumbnails.WriteAll(ctx, key, p.Bytes, &blob.WriterOptions{
				ContentType:                 a.Format.MediaType(),
				DisableContentTypeDetection: true,
			})
		})
		if err != nil {
			return nil, err
		}
		thumbnails = append(thumbnails, photo.Thumbnail{Size: p.Size, Key: key})
	}
	return thumbnails, nil
}
