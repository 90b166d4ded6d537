package worker

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/bucket"
	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/health"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/renderer"
	"github.com/photo-processor/photo-processor/internal/telemetry"
)

func databaseOptions(tel *telemetry.Telemetry) []postgres.Option {
	if !tel.HasTraces() {
		return nil
	}
	return []postgres.Option{postgres.Traced(tel.Tracers)}
}

// newMetrics registers the worker's metrics, and returns those of the
// activities. It returns nil if metrics are off.
func newMetrics(tel *telemetry.Telemetry, db *postgres.DB, render *renderer.Renderer) (*activities.Metrics, error) {
	if !tel.HasMetrics() {
		return nil, nil
	}
	meter := tel.Meters.Meter("github.com/photo-processor/photo-processor/worker")
	_, queueErr := meter.Int64ObservableGauge("photo_processor.render.queue.depth",
		metric.WithDescription("Pictures that wait for a process to render them."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(render.Waiting())
			return nil
		}))
	_, processesErr := meter.Int64ObservableGauge("photo_processor.render.processes",
		metric.WithDescription("Running render processes, by whether all layers of their sandbox are in force."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			complete, partial := render.Processes()
			o.Observe(complete, metric.WithAttributes(attribute.String("sandbox", "complete")))
			o.Observe(partial, metric.WithAttributes(attribute.String("sandbox", "partial")))
			return nil
		}))
	if err := errors.Join(queueErr, processesErr, db.Measure(tel.Meters)); err != nil {
		return nil, err
	}
	return activities.NewMetrics(tel.Meters)
}

func interceptors(metrics *activities.Metrics) []interceptor.WorkerInterceptor {
	if metrics == nil {
		return nil
	}
	return []interceptor.WorkerInterceptor{metrics.Interceptor()}
}

// readiness has the dependencies that the worker's /readyz checks.
type readiness struct {
	db             *postgres.DB
	sourceCacheDir string
	bucket         *bucket.Probe
	renderer       *renderer.Renderer
	temporal       client.Client
	namespace      string      // of Temporal
	polling        atomic.Bool // the worker polls the task queue
}

func (rd *readiness) handler(log *slog.Logger) *health.Readiness {
	return &health.Readiness{Log: log, Verbose: true, Checks: []health.Check{
		{Name: "postgresql", Title: "PostgreSQL", Ping: rd.db.Ping},
		{Name: "temporal", Title: "Temporal", Ping: rd.pingTemporal},
		{Name: "thumbnails_bucket", Title: "the thumbnails bucket", Ping: rd.bucket.Check},
		{Name: "source_cache_directory", Title: "the directory of the source cache", Missing: "not usable",
			Ping: func(context.Context) error { return os.MkdirAll(rd.sourceCacheDir, 0o700) }}, // like the first fetch
		{Name: "renderer", Title: "the renderer", Missing: "not running",
			Ping:    func(context.Context) error { return rd.renderer.Ready() },
			Details: rd.renderDetails},
		{Name: "task_queue", Missing: "not polled", Ping: rd.pingQueue},
	}}
}

func (rd *readiness) renderDetails() any {
	complete, partial := rd.renderer.Processes()
	sandbox := rd.renderer.Sandbox()
	return map[string]any{
		"sandbox":   sandbox,
		"missing":   sandbox.Missing(),
		"processes": map[string]int64{"complete": complete, "partial": partial},
		"waiting":   rd.renderer.Waiting(),
	}
}

func (rd *readiness) pingTemporal(ctx context.Context) error {
	return config.PingTemporal(ctx, rd.temporal, rd.namespace)
}

func (rd *readiness) pingQueue(context.Context) error {
	if !rd.polling.Load() {
		return errors.New("the worker polls no tasks: it is starting or stopping")
	}
	return nil
}
