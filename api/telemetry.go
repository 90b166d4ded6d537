package api

import (
	"context"
	"errors"
	"net/http"
	"regexp"

	"github.com/gorilla/mux"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	enumspb "go.temporal.io/api/enums/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/telemetry"
)

// withTelemetry is a middleware that measures and traces requests if metrics or
// traces are configured. It continues the client's trace.
func (s *Server) withTelemetry(next http.Handler) http.Handler {
	if t := s.Telemetry; t == nil || !t.HasMetrics() && !t.HasTraces() {
		return next
	}
	return otelhttp.NewHandler(next, "request",
		otelhttp.WithMeterProvider(s.Telemetry.Meters), otelhttp.WithTracerProvider(s.Telemetry.Tracers),
		otelhttp.WithPropagators(telemetry.Propagator),
		otelhttp.WithFilter(func(r *http.Request) bool { return !isProbe(r) && r.URL.Path != eventsPath }), // a stream has no meaningful duration
		otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return r.Method }))
}

// variablePattern matches a variable in a path template of mux.Router.
var variablePattern = regexp.MustCompile(`\{(\w+):(?:[^{}]|\{[^{}]*\})*\}`)

// withRouteName is a middleware that labels spans and metrics with the path
// template, whose cardinality does not grow with the photos.
func withRouteName(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if route, err := mux.CurrentRoute(r).GetPathTemplate(); err == nil {
			route = variablePattern.ReplaceAllString(route, "{$1}")
			attr := attribute.String("http.route", route)
			span := trace.SpanFromContext(r.Context())
			span.SetName(r.Method + " " + route)
			span.SetAttributes(attr)
			if labels, ok := otelhttp.LabelerFromContext(r.Context()); ok {
				labels.Add(attr)
			}
		}
		next.ServeHTTP(w, r)
	})
}

// measure registers the metrics of the backlogs in PostgreSQL and in Temporal.
// The API exports them because it runs even when no worker does.
func (s *Server) measure() error {
	if !s.Telemetry.HasMetrics() {
		return nil
	}
	if err := s.DB.Measure(s.Telemetry.Meters); err != nil {
		return err
	}
	meter := s.Telemetry.Meters.Meter("github.com/photo-processor/photo-processor/api")
	gauge := func(name, unit, description string) (metric.Float64ObservableGauge, error) {
		return meter.Float64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(description))
	}
	photos, err1 := gauge("photo_processor.photos", "", "Photos that are not finished, up to 10,000 of each status.")
	photosAge, err2 := gauge("photo_processor.photos.oldest.age", "s", "How long the oldest of them has been pending, or processing.")
	backlog, err3 := gauge("photo_processor.task_queue.backlog", "", "Tasks in Temporal that wait for a worker, approximately.")
	backlogOldest, err4 := gauge("photo_processor.task_queue.backlog.age", "s", "How long the oldest of them has been waiting, approximately.")
	pollers, err5 := gauge("photo_processor.task_queue.pollers", "", "Workers that have asked Temporal for tasks in the last minutes.")
	batches, err6 := gauge("photo_processor.batches.open", "", "Batches that are not done.")
	watchers, err7 := gauge("photo_processor.watchers", "", "Clients that watch GET /events of this process.")
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7); err != nil {
		return err
	}
	if _, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveFloat64(watchers, float64(s.events.clients()))
		return nil
	}, watchers); err != nil {
		return err
	}

	label := func(name, value string) metric.MeasurementOption {
		return metric.WithAttributeSet(attribute.NewSet(attribute.String(name, value)))
	}
	pending, processing := label("status", string(photo.Pending)), label("status", string(photo.Processing))
	err := telemetry.OnScrape(s.Telemetry, meter, s.DB.Backlog, func(o metric.Observer, b postgres.Backlog) {
		o.ObserveFloat64(photos, float64(b.Pending), pending)
		o.ObserveFloat64(photosAge, b.PendingFor.Seconds(), pending)
		o.ObserveFloat64(photos, float64(b.Processing), processing)
		o.ObserveFloat64(photosAge, b.ProcessingFor.Seconds(), processing)
		o.ObserveFloat64(batches, float64(b.Batches))
	}, photos, photosAge, batches)
	if err != nil {
		return err
	}
	for kind, taskQueueType := range map[string]enumspb.TaskQueueType{
		"workflow": enumspb.TASK_QUEUE_TYPE_WORKFLOW, "activity": enumspb.TASK_QUEUE_TYPE_ACTIVITY,
	} {
		ofKind := label("type", kind)
		describe := func(ctx context.Context) (*workflowservice.DescribeTaskQueueResponse, error) {
			return s.Temporal.WorkflowService().DescribeTaskQueue(ctx, &workflowservice.DescribeTaskQueueRequest{
				Namespace:     s.Namespace,
				TaskQueue:     &taskqueuepb.TaskQueue{Name: s.Config.TaskQueue},
				TaskQueueType: taskQueueType, ReportStats: true,
			})
		}
		err := telemetry.OnScrape(s.Telemetry, meter, describe, func(o metric.Observer, found *workflowservice.DescribeTaskQueueResponse) {
			o.ObserveFloat64(backlog, float64(found.GetStats().GetApproximateBacklogCount()), ofKind)
			o.ObserveFloat64(backlogOldest, found.GetStats().GetApproximateBacklogAge().AsDuration().Seconds(), ofKind)
			o.ObserveFloat64(pollers, float64(len(found.GetPollers())), ofKind)
		}, backlog, backlogOldest, pollers)
		if err != nil {
			return err
		}
	}
	return nil
}
