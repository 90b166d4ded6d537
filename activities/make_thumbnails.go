package activities

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/activity"
	"gocloud.dev/blob"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// MakeThumbnailsInput names the run for which to make the photo's thumbnails.
type MakeThumbnailsInput struct{ StepInput }

// WithLocalFailure returns the input of the regular activity.
func (in MakeThumbnailsInput) WithLocalFailure(f *photo.Failure) any { in.LocalFailure = f; return in }

// MakeThumbnailsResult describes the thumbnails and their source, for the
// history.
type MakeThumbnailsResult struct {
	Thumbnails   []string `json:"thumbnails"` // sizes, such as "320x213", the largest first
	Milliseconds int64    `json:"ms"`         // duration of rendering and storing
	// Source describes the rendered bytes. It differs from the result of
	// FetchSource if the source was fetched again and had changed.
	Source       photo.SourceInfo `json:"source"`
	FetchedAgain bool             `json:"fetched_again,omitempty"`
}

// MakeThumbnails renders the photo's source, writes the thumbnails to the
// bucket, and then replaces the photo's rows. It reads the source from this
// worker's cache, and fetches it again on a miss; the rows always describe the
// rendered bytes. Finish deletes the files that this orphans.
//
// It is idempotent: another attempt at the same source writes the same files,
// and one transaction, fenced by the run, makes the rows exactly those of this
// attempt.
func (a *Activities) MakeThumbnails(ctx context.Context, in MakeThumbnailsInput) (*MakeThumbnailsResult, error) {
	return runStep(ctx, a, in.StepInput, func(ctx context.Context, current *attempt) (*MakeThumbnailsResult, error) {
		return a.makeThumbnails(ctx, in.Run, current)
	})
}

func (a *Activities) makeThumbnails(ctx context.Context, run photo.Run, current *attempt) (*MakeThumbnailsResult, error) {
	if !activity.GetInfo(ctx).IsLocalActivity {
		// An outage of the bucket may be why the local activity failed. Check
		// the bucket before the retry fetches and renders in vain.
		if err := a.callBucket(ctx, a.BucketProbe.Check); err != nil {
			return nil, err
		}
	}
	source, hit, err := a.cachedSource(ctx, run, current)
	a.Metrics.countLookup(ctx, hit)
	if err != nil {
		return nil, err
	}
	defer source.Release()

	start := time.Now()
	rendering, err := a.Renderer.Render(ctx, source.ForRenderer())
	a.Metrics.recordStep(ctx, "render", start, err)
	if err != nil {
		return nil, err
	}
	thumbnails, err := a.publish(ctx, run, source.SourceInfo, rendering)
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

// publish writes the files and then the rows, so that a row's file always
// exists.
func (a *Activities) publish(ctx context.Context, run photo.Run, source photo.SourceInfo, rendering photo.Rendering) ([]photo.Thumbnail, error) {
	published, err := a.thumbnailKeys(ctx, run.Photo)
	if err != nil {
		return nil, err
	}
	thumbnails, err := a.writeFiles(ctx, run, rendering.Thumbnails, published)
	if err == nil {
		queryCtx, cancel := context.WithTimeout(ctx, databaseTimeout)
		defer cancel()
		err = a.DB.PublishThumbnails(queryCtx, run, source, thumbnails, rendering.Placeholder)
	}
	if errors.Is(err, photo.ErrSuperseded) || ctx.Err() != nil {
		// The run may have finished before this attempt wrote its files, so
		// that Finish did not see them.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.BucketTimeout)
		defer cancel()
		files, listErr := a.listThumbnails(ctx, run.Photo)
		err = errors.Join(err, listErr, a.deleteOrphanedFiles(ctx, run.Photo, files))
	}
	return thumbnails, err
}

func (a *Activities) thumbnailKeys(ctx context.Context, id uuid.UUID) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	_, keys, err := a.DB.ThumbnailKeys(ctx, id)
	if errors.Is(err, photo.ErrNotFound) {
		return nil, photo.ErrSuperseded // as for every other write of the run
	}
	return keys, err
}

// writeFiles writes each thumbnail to the bucket. published are the keys of the
// photo's rows.
func (a *Activities) writeFiles(ctx context.Context, run photo.Run, encoded []photo.EncodedThumbnail, published []string) ([]photo.Thumbnail, error) {
	var thumbnails []photo.Thumbnail
	for _, t := range encoded {
		key := thumbnailKey(run, t, a.Format, published)
		err := a.callBucket(ctx, func(ctx context.Context) error {
			return a.Thumbnails.WriteAll(ctx, key, t.Bytes, &blob.WriterOptions{
				ContentType:                 a.Format.MediaType(),
				DisableContentTypeDetection: true,
			})
		})
		a.BucketProbe.Wrote(err)
		if err != nil {
			return nil, err
		}
		thumbnails = append(thumbnails, photo.Thumbnail{Size: t.Size, Key: key})
	}
	return thumbnails, nil
}

// thumbnailKey returns the key of a thumbnail's file, such as
// "<uuid>/320x213-c2a159146dec915f-5e0c77d1.jpg": its size, 8 bytes of the
// digest of its content, and 4 bytes of the digest of the run that first
// published it. A run that makes the same thumbnail again keeps the published
// key, and so the URL that pages have.
//
// Every other key contains the run's digest. So no later run records a file that
// an earlier run left without a row: deleteOrphanedFiles relies on this, and
// needs no lock.
func thumbnailKey(run photo.Run, t photo.EncodedThumbnail, format photo.Format, published []string) string {
	content := sha256.Sum256(t.Bytes)
	name := fmt.Sprintf("%s%s-%x", thumbnailPrefix(run.Photo), t.Size, content[:8])
	for _, key := range published {
		if strings.HasPrefix(key, name) && strings.HasSuffix(key, format.Extension()) {
			return key
		}
	}
	token := sha256.Sum256([]byte(sourceKey(run)))
	return fmt.Sprintf("%s-%x%s", name, token[:4], format.Extension())
}
