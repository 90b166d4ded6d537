// Package activities holds the steps of a photo's life that touch the outside
// world: one file per step, in the order in which the workflow takes them.
//
//	MarkProcessing  the run takes the photo                       (PostgreSQL)
//	MakeThumbnails  URL ──▶ libvips ──▶ thumbnails bucket, rows   (HTTP, bucket, PostgreSQL)
//	Finish          final status; files that are left over go     (PostgreSQL, bucket)
//
// ReconcilePage is the reconciler's: it looks for photos that were left
// processing by a run that has ended without Finish. StartPage starts the
// workflows of photos that were posted by the thousand.
//
// Every activity is idempotent, because Temporal runs it at least once, and is
// fenced by its run, because a worker that was thought lost may wake up at any
// time. Errors that leave this package are Temporal application errors: see
// errors.go.
package activities

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"gocloud.dev/blob"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/renderer"
	"github.com/photo-processor/photo-processor/internal/source"
)

// Activities holds what the activities need. Workflows name the methods
// through a nil pointer of this type.
type Activities struct {
	DB         *postgres.DB
	Spool      *Spool // where sources are that are being processed
	Thumbnails *blob.Bucket
	Fetcher    *source.Fetcher
	Renderer   Renderer
	Format     photo.Format // of what the renderer makes
	Log        *slog.Logger // for lines about photos
	Metrics    *Metrics     // nil: nothing is measured

	// FirstFetchTimeout bounds the fetch of an attempt that is a local activity.
	FirstFetchTimeout time.Duration

	// BucketTimeout bounds one request to the bucket: without it, one that says
	// nothing would be noticed only when the activity's time is over, which is
	// how a worker is lost.
	BucketTimeout time.Duration

	// For ReconcilePage and StartPage, which are about other workflows. The
	// functions start a photo's, unless it runs; StartInBatch, unless the batch
	// has done so before.
	Temporal         client.Client
	StartProcessing  func(ctx context.Context, id uuid.UUID) error
	StartInBatch     func(ctx context.Context, id, batch uuid.UUID) error
	StartConcurrency int // of one StartPage
	// ReserveRoom, if there is one, waits until this worker has room for a photo
	// more. Done is called when its workflow has been started.
	ReserveRoom func(ctx context.Context) (done func(), err error)
}

// Renderer makes a photo's thumbnails, as configured, from the bytes of its
// source. Its errors are *photo.Failure, or the context's. It is an interface
// so that tests can have it crash and hang.
type Renderer interface {
	Render(ctx context.Context, source renderer.Source) ([]photo.Picture, error)
}

// heartbeatEvery is how often a long activity shows that it is alive. The
// workflow allows six times that. Cancelling is noticed at a heartbeat, so
// that this is also about how long it takes.
const heartbeatEvery = 5 * time.Second

// keepAlive heartbeats until the returned function is called. The details are
// what the Web UI shows of the pending activity.
func keepAlive(ctx context.Context, details func() any) (stop func()) {
	done := make(chan struct{})
	go func() {
		ticker := time.NewTicker(heartbeatEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				activity.RecordHeartbeat(ctx, details())
			case <-done:
				return
			}
		}
	}()
	return func() { close(done) }
}
