package activities

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/activity"
	"gocloud.dev/blob"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// MakeThumbnailsInput says whose thumbnails to make.
type MakeThumbnailsInput struct {
	Run     photo.Run `json:"run"`
	Attempt int       `json:"attempt,omitempty"` // the workflow's own count, for the log alone
	// Outage is true after an attempt that PostgreSQL or the bucket, being away, ended.
	Outage bool `json:"outage,omitempty"`
}

// MakeThumbnailsResult says what was made of what, for the reader of the
// history.
type MakeThumbnailsResult struct {
	MediaType  string   `json:"media_type"` // of the source, by its bytes
	Bytes      int64    `json:"bytes"`      // of the source
	Thumbnails []string `json:"thumbnails"` // their sizes, such as "320x213", the largest first
}

// MakeThumbnails fetches the photo's source, renders it, writes the files, and
// makes the photo's rows exactly those. Files that no row names any more are
// removed by Finish. It is idempotent: a file's key contains the digest of its
// content, so that another attempt writes the same; the rows are written in one
// transaction that only the owning run can make, after the files are there.
//
// The first attempt is a local activity: what the fetch may take is then bounded,
// and nobody waits for it when the workflow is cancelled.
//
// To fetch and to render are one activity because two cost Temporal half as much
// again, and because the first would run far ahead of the second: of a
// backlog, every source would be staged before the first thumbnail is made.
func (a *Activities) MakeThumbnails(ctx context.Context, in MakeThumbnailsInput) (*MakeThumbnailsResult, error) {
	ctx = about(ctx, in.Run, in.Attempt)
	made, err := a.makeThumbnails(ctx, in)
	if errors.Is(err, photo.ErrSuperseded) && ctx.Err() == nil {
		// Or the run has finished the photo and does not know, because the workflow
		// task in which it did was lost. It then ends as the photo did.
		made, err = a.outcome(ctx, in.Run)
	}
	if err != nil {
		return nil, a.applicationError(ctx, err)
	}
	return made, nil
}

// outcome is what the run has made of its photo already.
func (a *Activities) outcome(ctx context.Context, run photo.Run) (*MakeThumbnailsResult, error) {
	source, thumbnails, err := a.DB.Outcome(ctx, run)
	if err != nil {
		return nil, err
	}
	slices.Reverse(thumbnails) // the largest first
	return resultOf(source, thumbnails), nil
}

func resultOf(source photo.Source, thumbnails []photo.Thumbnail) *MakeThumbnailsResult {
	result := &MakeThumbnailsResult{MediaType: source.MediaType, Bytes: source.Bytes}
	for _, t := range thumbnails {
		result.Thumbnails = append(result.Thumbnails, t.Size.String())
	}
	return result
}

func (a *Activities) makeThumbnails(ctx context.Context, in MakeThumbnailsInput) (*MakeThumbnailsResult, error) {
	run, info := in.Run, activity.GetInfo(ctx)
	var now progress
	if info.IsLocalActivity {
		if time.Since(run.StartedAt) > firstAttemptBegins {
			return nil, errLate
		}
	} else {
		defer keepAlive(ctx, now.details)()
	}
	if in.Outage || info.Attempt > 1 {
		// Perhaps the bucket was away, which is known only when the thumbnails are
		// made: the source is spared until it is back.
		if err := a.askBucket(ctx, a.bucketIsThere); err != nil {
			return nil, err
		}
	}
	start := time.Now()
	fetchCtx, cancel := ctx, context.CancelFunc(func() {})
	if info.IsLocalActivity {
		fetchCtx, cancel = context.WithTimeoutCause(ctx, a.FirstFetchTimeout, errSlow)
	}
	source, err := a.fetchSource(fetchCtx, run, now.received.Store)
	cancel()
	if err != nil && context.Cause(fetchCtx) == errSlow {
		err = errSlow
	}
	a.Metrics.countBytes(ctx, now.received.Load())
	a.Metrics.timeStep(ctx, "fetch", start, err)
	if err != nil {
		return nil, err
	}
	defer source.Close()
	now.fetched.Store(true)

	start = time.Now()
	pictures, err := a.Renderer.Render(ctx, source.forRenderer())
	a.Metrics.timeStep(ctx, "render", start, err)
	if err != nil {
		return nil, err
	}
	thumbnails, err := a.publish(ctx, run, source.Source, pictures)
	if err != nil {
		return nil, err
	}
	return resultOf(source.Source, thumbnails), nil
}

// firstAttemptBegins is how soon after its run a first attempt begins. It is a
// workflow task's time. When a worker dies of a picture after the SDK has asked
// for another task, that task is handed out again and again, and the workflow,
// which does not see it, would make the first attempt each time.
const firstAttemptBegins = 10 * time.Second

// publish writes the files and then the rows.
func (a *Activities) publish(ctx context.Context, run photo.Run, source photo.Source, pictures []photo.Picture) ([]photo.Thumbnail, error) {
	thumbnails, err := a.writePictures(ctx, run, pictures)
	if err == nil {
		err = a.DB.PublishThumbnails(ctx, run, source, thumbnails)
	}
	if errors.Is(err, photo.ErrSuperseded) || ctx.Err() != nil {
		// Perhaps the photo has been finished without us, and what was just
		// written is in nobody's rows.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.BucketTimeout)
		defer cancel()
		err = errors.Join(err, a.sweep(ctx, run.Photo))
	}
	return thumbnails, err
}

// bucketIsThere asks whether there is a bucket, and whether it lets us in.
func (a *Activities) bucketIsThere(ctx context.Context) error {
	there, err := a.Thumbnails.IsAccessible(ctx)
	if err == nil && !there {
		err = errors.New("there is no such bucket")
	}
	return err
}

// progress is how far an attempt has come.
type progress struct {
	received atomic.Int64 // bytes of the source
	fetched  atomic.Bool
}

// details are what heartbeats tell, and the Web UI shows of the pending activity.
func (p *progress) details() any {
	step := "fetching"
	if p.fetched.Load() {
		step = "rendering"
	}
	return struct {
		Step          string `json:"step"`
		BytesReceived int64  `json:"bytes_received"`
	}{step, p.received.Load()}
}

// writePictures stores each picture under a key that its content decides.
func (a *Activities) writePictures(ctx context.Context, run photo.Run, pictures []photo.Picture) ([]photo.Thumbnail, error) {
	var thumbnails []photo.Thumbnail
	for _, p := range pictures {
		digest := sha256.Sum256(p.Bytes)
		key := fmt.Sprintf("%s%s-%s%s", thumbnailPrefix(run.Photo), p.Size, hex.EncodeToString(digest[:8]), a.Format.Extension())
		err := a.askBucket(ctx, func(ctx context.Context) error {
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
