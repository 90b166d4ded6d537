// Package worker runs the workflows and the activities. It is the only place
// that names both.
package worker

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/bucket"
	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/renderer"
	"github.com/photo-processor/photo-processor/internal/source"
	"github.com/photo-processor/photo-processor/internal/sourcecache"
	"github.com/photo-processor/photo-processor/internal/starter"
	"github.com/photo-processor/photo-processor/internal/telemetry"
	"github.com/photo-processor/photo-processor/workflows"
)

// reportTime is what activities that were given up at a stop have to say so,
// which lets another worker take over at once.
const reportTime = 5 * time.Second

// heartbeatThrottle bounds how long the SDK holds a heartbeat back, and so how
// long an activity may go on after its workflow was cancelled. By default it
// would be up to four fifths of the heartbeat timeout.
const heartbeatThrottle = 5 * time.Second

// cachedWorkflows is how many open workflows a worker keeps in memory, at some 25
// kB each. Those that are beyond are read again from Temporal when they go on,
// which is little: a photo's history is short.
const cachedWorkflows = 2000

// Register registers the workflows and the activities.
func Register(r worker.Registry, a *activities.Activities) {
	r.RegisterWorkflow(workflows.ProcessPhoto)
	r.RegisterWorkflow(workflows.ReconcilePhotos)
	r.RegisterWorkflow(workflows.StartPhotos)
	r.RegisterActivity(a)
}

// Run works on the task queue until the context is done. Then it takes no new
// task, and has SHUTDOWN_TIMEOUT to finish those it has; what is not finished
// by then is given back, and retried by another worker.
//
// It waits for PostgreSQL, the bucket and Temporal when they are not there yet.
// When one of them will never let it in, it says so and ends.
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
	fetch := sourceConfig(cfg)
	fetch.Tracer = tel.Tracers.Tracer("github.com/photo-processor/photo-processor/internal/source")
	fetcher, err := source.New(fetch)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	defer fetcher.Close()
	render, err := NewRenderer(cfg, log)
	if err != nil {
		return err
	}
	defer render.Close()
	metrics, err := measure(tel, db, render)
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
	ready := readiness{db: db, sourceCacheDir: cfg.SourceCacheDir, thumbnails: thumbnails, renderer: render, temporal: temporal}
	tel.Handle("GET /readyz", ready.handler(log))

	if err := db.MigrateWhenReady(ctx, log); err != nil {
		return err
	}
	if err := bucket.WaitUntilReady(ctx, log, "THUMBNAILS_BUCKET", thumbnails, cfg.BucketTimeout); err != nil {
		return err
	}
	if err := config.WaitForTemporal(ctx, log, temporal, options); err != nil || ctx.Err() != nil {
		return err
	}

	// The activities' own context: it ends some time after ours.
	working, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	worker.SetStickyWorkflowCacheSize(cachedWorkflows)
	w := worker.New(temporal, cfg.TaskQueue, worker.Options{
		DeploymentOptions:                      deployment(cfg),
		Interceptors:                           interceptors(metrics),
		MaxConcurrentWorkflowTaskExecutionSize: cfg.WorkerPhotos,
		MaxConcurrentActivityExecutionSize:     cfg.WorkerActivities,
		BackgroundActivityContext:              working,
		WorkerStopTimeout:                      cfg.ShutdownTimeout + reportTime,
		MaxHeartbeatThrottleInterval:           heartbeatThrottle,
		DefaultHeartbeatThrottleInterval:       heartbeatThrottle,
	})
	sources := sourcecache.New(sourcecache.Config{
		Dir: cfg.SourceCacheDir, MaxMemory: cfg.SourceCacheMemory, MaxDisk: cfg.SourceCacheDisk, MaxAge: cfg.SourceCacheMaxAge,
		MaxUnattended: cfg.WorkerActivities,
	})
	defer sources.Close()
	start := starter.Starter{Temporal: temporal, TaskQueue: cfg.TaskQueue}
	act := &activities.Activities{
		DB: db, Sources: sources, Thumbnails: thumbnails, Fetcher: fetcher, Renderer: render, Format: cfg.ThumbnailFormat,
		BucketTimeout: cfg.BucketTimeout,
		Log:           log,
		Metrics:       metrics,
		Temporal:      temporal,
		StartProcessing: func(ctx context.Context, id uuid.UUID) error {
			_, err := start.Photo(ctx, id)
			return err
		},
		StartInBatch: func(ctx context.Context, id uuid.UUID) error {
			_, err := start.BatchPhoto(ctx, id)
			return err
		},
		StartConcurrency: cfg.StartConcurrency,
	}
	Register(w, act)
	if err := scheduleReconciler(ctx, temporal, cfg); err != nil {
		return fmt.Errorf("schedule the reconciler: %w", err)
	}
	if err := w.Start(); err != nil {
		return fmt.Errorf("start the worker: %w", err)
	}
	ready.working.Store(true)
	log.Info("worker is ready", "task_queue", cfg.TaskQueue, "photos", cfg.WorkerPhotos, "activities", cfg.WorkerActivities, "renders", cfg.RenderConcurrency,
		"deployment", cfg.WorkerDeployment, "build_id", cfg.WorkerBuildID)
	<-ctx.Done()
	ready.working.Store(false)
	log.Info("worker stops", "at_most", cfg.ShutdownTimeout)
	defer time.AfterFunc(cfg.ShutdownTimeout, giveUp).Stop()
	w.Stop()
	return nil
}

// deployment opts the worker in to versioning. Workflows move on to the current
// version at their next task: one that outlasts an outage must not wait for
// workers of a version that nobody runs any more. The replay tests see to it
// that newer code can go on with it.
func deployment(cfg config.Config) worker.DeploymentOptions {
	if cfg.WorkerDeployment == "" {
		return worker.DeploymentOptions{}
	}
	return worker.DeploymentOptions{
		UseVersioning:             true,
		Version:                   worker.WorkerDeploymentVersion{DeploymentName: cfg.WorkerDeployment, BuildID: cfg.WorkerBuildID},
		DefaultVersioningBehavior: workflow.VersioningBehaviorAutoUpgrade,
	}
}

func sourceConfig(cfg config.Config) source.Config {
	redirects := cfg.SourceMaxRedirects
	if redirects == 0 {
		redirects = -1 // 0 asks for the default
	}
	return source.Config{
		MaxBytes:          cfg.SourceMaxBytes,
		Timeout:           cfg.SourceTimeout,
		ConnectTimeout:    cfg.SourceConnectTimeout,
		HeaderTimeout:     cfg.SourceHeaderTimeout,
		MaxHeaderBytes:    cfg.SourceMaxHeaderBytes,
		MaxRedirects:      redirects,
		MinBytesPerSecond: cfg.SourceMinBytesPerSecond,
		MaxRetryAfter:     cfg.SourceMaxRetryAfter,
		HostConcurrency:   cfg.SourceHostConcurrency,
		AllowCIDRs:        cfg.SourceAllowCIDRs,
		UserAgent:         cfg.SourceUserAgent,
		Proxy:             cfg.SourceProxy,
	}
}

// NewRenderer starts the renderer that the configuration asks for.
func NewRenderer(cfg config.Config, log *slog.Logger) (*renderer.Renderer, error) {
	path, err := renderer.Find(cfg.RendererPath)
	if err != nil {
		return nil, err
	}
	return renderer.New(renderer.Config{
		Options: renderer.Options{
			Boxes:     cfg.ThumbnailSizes,
			Format:    cfg.ThumbnailFormat,
			Quality:   cfg.ThumbnailQuality,
			MaxPixels: cfg.ImageMaxPixels,
			MaxFrames: cfg.ImageMaxFrames,
		},
		Path:        path,
		Concurrency: cfg.RenderConcurrency,
		Timeout:     cfg.RenderTimeout,
		MaxMemory:   cfg.RenderMaxMemory,
		MaxPictures: cfg.RenderMaxPictures,
		Log:         log,
	})
}
