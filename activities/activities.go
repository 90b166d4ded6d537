// Package activities holds the steps of a photo's life that touch the outside
// world: one file per step, in the order in which the workflow takes them.
//
//	MarkProcessing  the run takes the photo                       (PostgreSQL)
//	FetchSource     URL ──▶ this worker's source cache            (PostgreSQL, HTTP)
//	MakeThumbnails  source ──▶ libvips ──▶ thumbnails, rows       (bucket, PostgreSQL)
//	Finish          final status; files that are left over go     (PostgreSQL, bucket)
//
// Each runs as a local activity first and as a regular one if that fails; attempt.go
// has what an attempt does beside its step: heartbeats, retry budgets, lost workers.
// ReconcilePage and StartPage are about other workflows: the first looks for photos
// that a run has left processing, the second starts a page of a large request.
//
// Every activity is idempotent, because Temporal runs it at least once, and every
// write is fenced by its run, because a worker that was thought lost may wake up at
// any time. The errors are Temporal application errors: see errors.go.
package activities

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/client"
	"gocloud.dev/blob"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/renderer"
	"github.com/photo-processor/photo-processor/internal/source"
	"github.com/photo-processor/photo-processor/internal/sourcecache"
)

// Activities holds what the activities need. Workflows name the methods
// through a nil pointer of this type.
type Activities struct {
	DB         *postgres.DB
	Sources    *sourcecache.Cache
	Thumbnails *blob.Bucket
	Fetcher    *source.Fetcher
	Renderer   Renderer
	Format     photo.Format // of what the renderer makes
	Log        *slog.Logger // for lines about photos
	Metrics    *Metrics     // nil: nothing is measured

	// BucketTimeout bounds one request to the bucket. Without it, a bucket that does
	// not answer would be noticed only when the attempt runs out of time.
	BucketTimeout time.Duration

	// For ReconcilePage and StartPage. The functions start a photo's workflow unless
	// it is running; StartInBatch does so behind the photos that are posted singly.
	Temporal         client.Client
	StartProcessing  func(ctx context.Context, id uuid.UUID) error
	StartInBatch     func(ctx context.Context, id uuid.UUID) error
	StartConcurrency int // of one StartPage
}

// Renderer makes a photo's thumbnails, as configured, from the bytes of its
// source. Its errors are *photo.Failure, or the context's. It is an interface
// so that tests can have it crash and hang.
type Renderer interface {
	Render(ctx context.Context, source renderer.Source) ([]photo.Picture, error)
}
