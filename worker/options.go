package worker

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/renderer"
	"github.com/photo-processor/photo-processor/internal/source"
	"github.com/photo-processor/photo-processor/internal/sourcecache"
	"github.com/photo-processor/photo-processor/internal/telemetry"
	"github.com/photo-processor/photo-processor/internal/webhook"
	"github.com/photo-processor/photo-processor/workflows"
)

const (
	// shutdownReserve is added to SHUTDOWN_TIMEOUT. In this time, activities
	// that were canceled at the end of SHUTDOWN_TIMEOUT report it, so that
	// another worker can retry them without waiting for the heartbeat timeout.
	shutdownReserve = 5 * time.Second
	// heartbeatThrottle is how long the SDK may delay a heartbeat, and so the
	// longest time until an activity learns of its cancellation. The default is
	// four fifths of the heartbeat timeout, 24 seconds.
	heartbeatThrottle = 5 * time.Second
	// cachedWorkflows is the number of open workflows that a worker keeps in
	// memory, at about 25 kB each. Other workflows are replayed when they
	// continue, which is cheap: a photo's history is short.
	cachedWorkflows = 2000
)

// workerOptions returns the options of the Temporal worker. The SDK passes
// activityContext to the activities. If it stops polling because of an error,
// the error is sent to fatal, which must have room for one.
func workerOptions(activityContext context.Context, cfg config.Config, metrics *activities.Metrics, fatal chan<- error) worker.Options {
	return worker.Options{
		OnFatalError:                           func(err error) { fatal <- err },
		DeploymentOptions:                      deploymentOptions(cfg),
		Interceptors:                           interceptors(metrics),
		MaxConcurrentWorkflowTaskExecutionSize: cfg.WorkerPhotos,
		MaxConcurrentActivityExecutionSize:     cfg.WorkerActivities,
		BackgroundActivityContext:              activityContext,
		WorkerStopTimeout:                      cfg.ShutdownTimeout + shutdownReserve,
		MaxHeartbeatThrottleInterval:           heartbeatThrottle,
		DefaultHeartbeatThrottleInterval:       heartbeatThrottle,
	}
}

// deploymentOptions turn on worker versioning if a deployment is configured. A
// workflow moves to the current version at its next task. A pinned workflow
// could wait forever, after an outage, for workers of a version that no longer
// runs. The replay tests guarantee that newer code can continue it.
func deploymentOptions(cfg config.Config) worker.DeploymentOptions {
	if cfg.WorkerDeployment == "" {
		return worker.DeploymentOptions{}
	}
	return worker.DeploymentOptions{
		UseVersioning:             true,
		Version:                   worker.WorkerDeploymentVersion{DeploymentName: cfg.WorkerDeployment, BuildID: cfg.WorkerBuildID},
		DefaultVersioningBehavior: workflow.VersioningBehaviorAutoUpgrade,
	}
}

func newFetcher(cfg config.Config, tel *telemetry.Telemetry) (*source.Fetcher, error) {
	redirects := cfg.SourceMaxRedirects
	if redirects == 0 {
		redirects = -1 // in source.Config, 0 means the default and -1 means none
	}
	fetcher, err := source.New(source.Config{
		MaxBytes:          cfg.SourceMaxBytes,
		Timeout:           cfg.SourceTimeout,
		ConnectTimeout:    cfg.SourceConnectTimeout,
		HeaderTimeout:     cfg.SourceHeaderTimeout,
		MaxHeaderBytes:    cfg.SourceMaxHeaderBytes,
		MaxRedirects:      redirects,
		MinBytesPerSecond: cfg.SourceMinBytesPerSecond,
		MaxRetryAfter:     cfg.SourceMaxRetryAfter,
		HostConcurrency:   cfg.SourceHostConcurrency,
		MaxWaiting:        cfg.SourceMaxWaiting,
		MaxHostWait:       cfg.SourceMaxHostWait,
		AllowCIDRs:        cfg.SourceAllowCIDRs,
		AllowAddresses:    cfg.SourceAllowAddresses,
		UserAgent:         cfg.SourceUserAgent,
		Proxy:             cfg.SourceProxy,
		Tracer:            tel.Tracers.Tracer("github.com/photo-processor/photo-processor/internal/source"),
	})
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	return fetcher, nil
}

// NewRenderer starts the configured renderer. The caller must close it.
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

		RequireSandbox: cfg.RenderSandbox == config.SandboxRequired,
	})
}

// newWebhookSender returns nil if no webhook is configured.
func newWebhookSender(cfg config.Config) (*webhook.Sender, error) {
	if cfg.WebhookURL == "" {
		return nil, nil
	}
	return webhook.New(webhook.Config{URL: cfg.WebhookURL, Secrets: cfg.WebhookSecrets, Timeout: cfg.WebhookTimeout})
}

// hasFailureAttribute reports whether the namespace has the search attribute of
// failed photos. A workflow that set a missing one could not go on.
func hasFailureAttribute(ctx context.Context, c client.Client, namespace string, log *slog.Logger) bool {
	ctx, cancel := context.WithTimeout(ctx, searchAttributesTimeout)
	defer cancel()
	found, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	name := workflows.FailureAttribute.GetName()
	if err == nil && found.GetCustomAttributes()[name] == workflows.FailureAttribute.GetValueType() {
		return true
	}
	log.Info("failed photos cannot be found by their failure code in Temporal: its namespace has no search attribute of that name; create it, then restart the workers",
		"name", name, "type", "Keyword", "namespace", namespace, "error", err)
	return false
}

// searchAttributesTimeout bounds the request for the namespace's search
// attributes, which only a search in the Web UI needs.
const searchAttributesTimeout = 5 * time.Second

func newSourceCache(cfg config.Config) *sourcecache.Cache {
	return sourcecache.New(sourcecache.Config{
		Dir:                cfg.SourceCacheDir,
		MaxMemory:          cfg.SourceCacheMemory,
		MaxDisk:            cfg.SourceCacheDisk,
		MaxAge:             cfg.SourceCacheMaxAge,
		MaxDetachedFetches: cfg.WorkerActivities,
	})
}
