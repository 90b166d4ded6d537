package activities

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/telemetry"
)

// Metrics count what the activities do. docs/metrics.md describes them. No label
// ever holds what is different for each photo.
type Metrics struct {
	finished metric.Int64Counter
	steps    metric.Float64Histogram
	bytes    metric.Int64Counter
}

// NewMetrics makes the metrics of a worker.
func NewMetrics(meters metric.MeterProvider) (*Metrics, error) {
	meter := meters.Meter("github.com/photo-processor/photo-processor/activities")
	finished, err1 := meter.Int64Counter("photo_processor.photos.finished",
		metric.WithDescription("Photos that got their final status; code says why one failed."))
	steps, err2 := meter.Float64Histogram("photo_processor.step.duration", metric.WithUnit("s"),
		metric.WithDescription("What one attempt at a step of a photo took."))
	bytes, err3 := meter.Int64Counter("photo_processor.source", metric.WithUnit("By"),
		metric.WithDescription("Bytes fetched from sources, also by fetches that failed."))
	return &Metrics{finished: finished, steps: steps, bytes: bytes}, errors.Join(err1, err2, err3)
}

func (m *Metrics) countFinished(ctx context.Context, failure *photo.Failure) {
	if m == nil {
		return
	}
	status, code := photo.Completed, photo.Code("")
	if failure != nil {
		status, code = photo.Failed, failure.Code
	}
	m.finished.Add(ctx, 1, metric.WithAttributeSet(attribute.NewSet(
		attribute.String("status", string(status)), attribute.String("code", string(code)))))
}

func (m *Metrics) countBytes(ctx context.Context, n int64) {
	if m != nil {
		m.bytes.Add(ctx, n)
	}
}

// timeStep notes what one attempt at a step took that began at start.
func (m *Metrics) timeStep(ctx context.Context, step string, start time.Time, err error) {
	if m == nil {
		return
	}
	m.steps.Record(ctx, time.Since(start).Seconds(), metric.WithAttributeSet(attribute.NewSet(
		attribute.String("step", step), attribute.String("outcome", outcome(ctx, err)))))
}

// Interceptor measures every activity, whether it runs as a local or a regular
// one.
func (m *Metrics) Interceptor() interceptor.WorkerInterceptor {
	return &stepInterceptor{metrics: m}
}

type stepInterceptor struct {
	interceptor.WorkerInterceptorBase
	metrics *Metrics
}

func (i *stepInterceptor) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	return &stepTimer{interceptor.ActivityInboundInterceptorBase{Next: next}, i.metrics}
}

type stepTimer struct {
	interceptor.ActivityInboundInterceptorBase
	metrics *Metrics
}

func (s *stepTimer) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	start := time.Now()
	result, err := s.Next.ExecuteActivity(ctx, in)
	s.metrics.timeStep(ctx, steps[activity.GetInfo(ctx).ActivityType.Name], start, err)
	return result, err
}

// steps are the activities' names, as labels have them.
var steps = map[string]string{
	"MarkProcessing": "mark_processing",
	"MakeThumbnails": "make_thumbnails", // and within it fetch and render
	"Finish":         "finish",
	"ReconcilePage":  "reconcile_page",
	"StartPage":      "start_page",
}

// outcome says whose fault it was: the photo has "failed", something of ours had
// an "outage", somebody "canceled" it, a newer run had taken over, or the source
// was too "slow" for a first attempt.
func outcome(ctx context.Context, err error) string {
	_, isFailure := errors.AsType[*photo.Failure](err)
	made, isMade := errors.AsType[*temporal.ApplicationError](err)
	switch {
	case err == nil:
		return "ok"
	case ctx.Err() != nil:
		return "canceled"
	case isFailure:
		return "failed"
	case errors.Is(err, photo.ErrSuperseded), isMade && made.Type() == Superseded:
		return "superseded"
	case errors.Is(err, errSlow), errors.Is(err, errLate), isMade && made.Type() == Slow:
		return "slow"
	case !isMade, made.Type() == DatabaseUnavailable, made.Type() == string(photo.StorageUnavailable):
		return "outage"
	default:
		return "failed"
	}
}

// about gives a context whose lines in the log say what they are about. The
// attempt is the workflow's: unlike Temporal's own, it counts what the workflow
// repeats. 0 is none.
func about(ctx context.Context, run photo.Run, attempt int) context.Context {
	attrs := telemetry.About(run.Photo, run.ID)
	if attempt > 0 {
		attrs = append(attrs, slog.Int("attempt", attempt))
	}
	return telemetry.WithAttrs(ctx, attrs...)
}
