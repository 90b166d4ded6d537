// Package worker runs the workflows and the activities in a Temporal worker,
// and wires the activities to PostgreSQL, the bucket, the sources and the
// renderer.
package worker

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/bucket"
	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/photojson"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/starter"
	"github.com/photo-processor/photo-processor/internal/telemetry"
	"github.com/photo-processor/photo-processor/workflows"
)

// Register registers the workflows and the activities.
func Register(r worker.Registry, a *activities.Activities) {
	r.RegisterWorkflow(workflows.ProcessPhoto)
	r.RegisterWorkflow(workflows.ReconcilePhotos)
	r.RegisterWorkflow(workflows.StartPhotos)
	r.RegisterWorkflow(workflows.StartSelected)
	r.RegisterWorkflow(workflows.DeletePhoto)
	r.RegisterWorkflow(workflows.SendWebhook)
	r.RegisterWorkflow(workflows.NotifyBatch)
	r.RegisterActivity(a)
}

// Run processes tasks of the task queue until the context is done. It then
// polls no new tasks, and has SHUTDOWN_TIMEOUT to finish the running ones.
// Activities that take longer are canceled, and another worker retries them.
//
// At its start, Run waits for PostgreSQL, the bucket and Temporal as long as
// their errors are transient. It returns an error that waiting cannot cure,
// such as a refused password or a namespace that was deleted, and nil after a
// shutdown.
func Run(ctx context.Context, cfg config.Config, log *slog.Logger) error {
	tel, err := telemetry.Start(ctx, "worker", cfg.MetricsAddr, log)
	if err != nil {
		return err
	}
	defer tel.Close()
	db, err := postgres.Open(cfg.DatabaseURL, cfg.DatabaseMaxConns, databaseOptions(tel)...)
	if err != nil {
		return err
	}
	defer db.Close()
	thumbnails, err := bucket.Open(ctx, cfg.ThumbnailsBucket)
	if err != nil {
		return fmt.Errorf("THUMBNAILS_BUCKET: %w", err)
	}
	defer thumbnails.Close()
	fetcher, err := newFetcher(cfg, tel)
	if err != nil {
		return err
	}
	defer fetcher.Close()
	webhooks, err := newWebhookSender(cfg)
	if err != nil {
		return err
	}
	render, err := NewRenderer(cfg, log)
	if err != nil {
		return err
	}
	defer render.Close()
	metrics, err := newMetrics(tel, db, render)
	if err != nil {
		return err
	}
	options, err := config.Temporal(log)
	if err != nil {
		return err
	}
	if err := tel.Temporal(&options); err != nil {
		return err
	}
	temporal, err := client.NewLazyClient(options)
	if err != nil {
		return fmt.Errorf("connect to Temporal: %w", err)
	}
	defer temporal.Close()
	probe := bucket.NewProbe(thumbnails)
	ready := readiness{db: db, sourceCacheDir: cfg.SourceCacheDir, bucket: probe, renderer: render, temporal: temporal, namespace: options.Namespace}
	readyz := ready.handler(log)
	tel.Handle("GET /readyz", readyz)
	if err := readyz.Measure(tel); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}

	// Up to here nothing has connected to a server. Now wait for each of them.
	if err := db.MigrateWhenReady(ctx, log); err != nil {
		return err
	}
	if err := bucket.WaitUntilReady(ctx, log, "THUMBNAILS_BUCKET", thumbnails, cfg.BucketTimeout); err != nil {
		return err
	}
	if err := config.WaitForTemporal(ctx, log, temporal, options); err != nil || ctx.Err() != nil {
		return err
	}
	namespace := cmp.Or(options.Namespace, client.DefaultNamespace)
	hasAttribute := hasFailureAttribute(ctx, temporal, namespace, log)

	watch, stopWatch := context.WithCancel(ctx)
	defer stopWatch()
	go readyz.Watch(watch, cfg.DependencyInterval)

	// The activities' context outlives ctx by up to SHUTDOWN_TIMEOUT.
	activityContext, cancelActivities := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancelActivities(nil)
	worker.SetStickyWorkflowCacheSize(cachedWorkflows)
	fatal := make(chan error, 1)
	w := worker.New(temporal, cfg.TaskQueue, workerOptions(activityContext, cfg, metrics, fatal))
	sources := newSourceCache(cfg)
	defer sources.Close()
	start := starter.Starter{Temporal: temporal, TaskQueue: cfg.TaskQueue}
	Register(w, &activities.Activities{
		DB:            db,
		Sources:       sources,
		Thumbnails:    thumbnails,
		Fetcher:       fetcher,
		Renderer:      render,
		Format:        cfg.ThumbnailFormat,
		Log:           log,
		Metrics:       metrics,
		Outages:       new(telemetry.OutageLines),
		Webhook:       webhooks,
		PhotoJSON:     photojson.NewFormat(cfg, namespace),
		BucketProbe:   probe,
		BucketTimeout: cfg.BucketTimeout,
		Temporal:      temporal,
		StartPhoto: func(ctx context.Context, id uuid.UUID) error {
			_, err := start.StartPhoto(ctx, id)
			return err
		},
		StartBatchPhoto: func(ctx context.Context, id uuid.UUID) (string, error) {
			run, err := start.StartBatchPhoto(ctx, id)
			if err != nil {
				return "", err
			}
			return run.GetRunID(), nil
		},
		StartConcurrency: cfg.StartConcurrency,
		BatchRetention:   cfg.BatchRetention,

		HasFailureAttribute: hasAttribute,
	})
	if err := scheduleReconciler(ctx, temporal, cfg); err != nil {
		return fmt.Errorf("schedule the reconciler: %w", err)
	}
	if err := w.Start(); err != nil {
		return fmt.Errorf("start the worker: %w", err)
	}
	ready.polling.Store(true)
	log.Info("worker is ready", "task_queue", cfg.TaskQueue, "photos", cfg.WorkerPhotos, "activities", cfg.WorkerActivities, "renders", cfg.RenderConcurrency,
		"deployment", cfg.WorkerDeployment, "build_id", cfg.WorkerBuildID)
	var stopped error // by the SDK; nil for a shutdown
	select {
	case <-ctx.Done():
	case err := <-fatal:
		stopped = config.ExplainTemporalError(err, options)
	}
	ready.polling.Store(false)
	log.Info("worker stops; running activities are finished first", "at_most", cfg.ShutdownTimeout)
	defer time.AfterFunc(cfg.ShutdownTimeout, func() { cancelActivities(activities.ErrWorkerStops) }).Stop()
	w.Stop()
	return stopped
}
