// Package activities holds the activities of all workflows. Four are the steps
// of a photo, one per file, which the workflow ProcessPhoto runs in this order:
//
//	MarkProcessing  the run takes ownership of the photo          (PostgreSQL)
//	FetchSource     URL ──▶ this worker's source cache            (PostgreSQL, HTTP)
//	MakeThumbnails  source ──▶ libvips ──▶ thumbnails, rows       (bucket, PostgreSQL)
//	Finish          final status; orphaned files are deleted      (PostgreSQL, bucket)
//
// Each step runs as a local activity first, and as a regular activity if that
// fails. attempt.go adds heartbeats, retry budgets and the count of lost
// workers to each. The others belong to the other workflows:
//
//	start_page.go      starts a page of a large request
//	batches.go         creates batches, selects their photos, ends them
//	notify.go          posts webhooks; waits until a batch is done
//	delete_photo.go    deletes a photo's rows, stops its run, deletes its files
//	reconcile_page.go  finds photos that a closed run left processing
//
// Every activity is idempotent, because Temporal runs it at least once. Every
// write is fenced by its run, because a worker that was counted as lost may
// resume at any time. Errors are Temporal application errors; errors.go
// maps Go errors to them.
package activities

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/client"
	"gocloud.dev/blob"

	"github.com/photo-processor/photo-processor/internal/bucket"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/photojson"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/renderer"
	"github.com/photo-processor/photo-processor/internal/source"
	"github.com/photo-processor/photo-processor/internal/sourcecache"
	"github.com/photo-processor/photo-processor/internal/telemetry"
	"github.com/photo-processor/photo-processor/internal/webhook"
)

// Activities holds the dependencies of the activities, which are its methods.
// Workflows name the methods through a nil pointer of this type.
type Activities struct {
	DB         *postgres.DB
	Sources    *sourcecache.Cache
	Thumbnails *blob.Bucket
	Fetcher    *source.Fetcher
	Renderer   Renderer
	Format     photo.Format           // of the renderer's thumbnails
	Log        *slog.Logger           // for lines about photos
	Metrics    *Metrics               // nil records nothing
	Outages    *telemetry.OutageLines // limits lines about outages; nil does not

	// Webhook posts the ends of photos and batches, in the form of PhotoJSON; nil
	// if no webhook is configured.
	Webhook   *webhook.Sender
	PhotoJSON photojson.Format
	// HasFailureAttribute is true if the namespace has the search attribute
	// PhotoFailure.
	HasFailureAttribute bool

	// BucketProbe checks the thumbnails bucket before a retry.
	BucketProbe *bucket.Probe
	// BucketTimeout bounds one request to the bucket. Without it, a request
	// without an answer would take all the time of its attempt.
	BucketTimeout time.Duration

	// ReconcilePage, StartPage and StopRun use these. Both functions do nothing if
	// the photo's workflow is running. StartBatchPhoto starts it with a lower
	// priority, and returns the ID of the run that is open then.
	Temporal         client.Client
	StartPhoto       func(ctx context.Context, id uuid.UUID) error
	StartBatchPhoto  func(ctx context.Context, id uuid.UUID) (runID string, err error)
	StartConcurrency int           // concurrent calls of StartBatchPhoto in one StartPage
	BatchRetention   time.Duration // age at which ReconcilePage deletes a batch
}

// Renderer makes thumbnails of a source, in the configured sizes and format.
// Its errors are a *photo.Failure, a *renderer.SourceReadError, the context's,
// or renderer.ErrClosed. A stopping worker cancels its activities before it
// closes the renderer, so that an activity which gets ErrClosed ends as
// canceled. It is an interface so that tests can inject crashes and hangs.
type Renderer interface {
	Render(ctx context.Context, source renderer.Source) (photo.Rendering, error)
}
