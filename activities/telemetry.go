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
	"github.com/photo-processor/photo-processor/internal/source"
	"github.com/photo-processor/photo-processor/internal/telemetry"
)

// Metrics are the instruments of the activities; docs/metrics.md describes
// them. No label has a value that differs from photo to photo, which would make
// a time series of each.
type Metrics struct {
	finished metric.Int64Counter
	steps    metric.Float64Histogram
	bytes    metric.Int64Counter
	lookups  metric.Int64Counter
}

// NewMetrics creates the instruments.
func NewMetrics(meters metric.MeterProvider) (*Metrics, error) {
	meter := meters.Meter("github.com/photo-processor/photo-processor/activities")
	finished, err1 := meter.Int64Counter("photo_processor.photos.finished",
		metric.WithDescription("Photos that got their final status; code says why one failed."))
	steps, err2 := meter.Float64Histogram("photo_processor.step.duration", metric.WithUnit("s"),
		metric.WithDescription("What one attempt at a step of a photo took."))
	bytes, err3 := meter.Int64Counter("photo_processor.source", metric.WithUnit("By"),
		metric.WithDescription("Bytes fetched from sources, also by fetches that failed."))
	lookups, err4 := meter.Int64Counter("photo_processor.source.cache.lookups",
		metric.WithDescription("Sources that MakeThumbnails found in the worker's cache (hit), or had to fetch again (miss)."))
	return &Metrics{finished: finished, steps: steps, bytes: bytes, lookups: lookups}, errors.Join(err1, err2, err3, err4)
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

func (m *Metrics) countLookup(ctx context.Context, hit bool) {
	if m == nil {
		return
	}
	result := "miss"
	if hit {
		result = "hit"
	}
	m.lookups.Add(ctx, 1, metric.WithAttributeSet(attribute.NewSet(attribute.String("result", result))))
}

// recordStep records the duration and the outcome of one attempt at a step.
func (m *Metrics) recordStep(ctx context.Context, step string, start time.Time, err error) {
	if m == nil {
		return
	}
	m.steps.Record(ctx, time.Since(start).Seconds(), metric.WithAttributeSet(attribute.NewSet(
		attribute.String("step", step), attribute.String("outcome", outcomeLabel(ctx, err)))))
}

// Interceptor returns an interceptor that records every local and regular
// activity.
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
	s.metrics.recordStep(ctx, stepLabels[activity.GetInfo(ctx).ActivityType.Name], start, err)
	return result, err
}

// stepLabels maps activity types to values of the label step. Its values
// "fetch" and "render" are parts of fetch_source and make_thumbnails, without
// the waiting.
var stepLabels = map[string]string{
	"MarkProcessing": "mark_processing",
	"FetchSource":    "fetch_source",
	"MakeThumbnails": "make_thumbnails",
	"Finish":         "finish",
	"ReconcilePage":  "reconcile_page",
	"StartPage":      "start_page",
	"CreateBatch":    "create_batch",
	"SelectPage":     "select_page",
	"EndBatch":       "end_batch",
	"AwaitBatch":     "await_batch",
	"Notify":         "notify",
	"DeleteRows":     "delete_rows",
	"StopRun":        "stop_run",
	"DeleteFiles":    "delete_files",
}

// outcomeLabel returns the value of the label outcome: "ok", "failed" for a
// failure of the photo, "outage" for an infrastructure error, "busy" for a fetch
// that found no free slot of its host, "waiting" for a batch or run that is not done,
// "timeout" or "canceled" for an attempt whose context ended, or "superseded"
// for a run that lost its photo.
func outcomeLabel(ctx context.Context, err error) string {
	_, isFailure := errors.AsType[*photo.Failure](err)
	appErr, isAppErr := errors.AsType[*temporal.ApplicationError](err)
	switch {
	case err == nil:
		return "ok"
	case errors.Is(ctx.Err(), context.DeadlineExceeded), isAppErr && appErr.Type() == AttemptTimeout:
		return "timeout"
	case ctx.Err() != nil:
		return "canceled"
	case isFailure:
		return "failed"
	case errors.Is(err, source.ErrHostBusy), isAppErr && appErr.Type() == HostBusy:
		return "busy"
	case isAppErr && (appErr.Type() == BatchNotDone || appErr.Type() == RunIsOpen):
		return "waiting"
	case errors.Is(err, photo.ErrSuperseded), isAppErr && appErr.Type() == Superseded:
		return "superseded"
	case !isAppErr, appErr.Type() == DatabaseUnavailable, appErr.Type() == StorageUnavailable:
		return "outage"
	default:
		return "failed"
	}
}

// withPhotoAttrs returns a context whose log lines have the attributes of the
// photo and its run, and more.
func withPhotoAttrs(ctx context.Context, run photo.Run, more ...slog.Attr) context.Context {
	return telemetry.WithAttrs(ctx, append(telemetry.PhotoAttrs(run.Photo, run.ID), more...)...)
}
