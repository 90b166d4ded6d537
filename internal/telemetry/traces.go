package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.temporal.io/sdk/client"
	temporalotel "go.temporal.io/sdk/contrib/opentelemetry"
	"go.temporal.io/sdk/interceptor"
)

// Propagator is how a trace travels: from the API's client, and through
// Temporal. Baggage, which may hold anything, does not.
var Propagator = propagation.TraceContext{}

// tracesWanted reads OpenTelemetry's own variables, with one difference from
// their specification: that nothing is said about traces means none.
func tracesWanted() (bool, error) {
	if disabled, _ := strconv.ParseBool(os.Getenv("OTEL_SDK_DISABLED")); disabled {
		return false, nil
	}
	switch exporter := os.Getenv("OTEL_TRACES_EXPORTER"); exporter {
	case "otlp":
		return true, nil
	case "none":
		return false, nil
	case "":
		return os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "", nil
	default:
		return false, fmt.Errorf("OTEL_TRACES_EXPORTER: must be otlp or none, not %q", exporter)
	}
}

// exporter sends spans by the protocol that the variables name. The libraries
// read the others: endpoints, headers, certificates, timeouts.
func exporter(ctx context.Context) (sdktrace.SpanExporter, error) {
	protocol := os.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
	if protocol == "" {
		protocol = os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL")
	}
	switch protocol {
	case "", "http/protobuf":
		return otlptrace.New(ctx, otlptracehttp.NewClient())
	case "grpc":
		return otlptrace.New(ctx, otlptracegrpc.NewClient())
	default:
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL: must be http/protobuf or grpc, not %q", protocol)
	}
}

func (t *Telemetry) trace(ctx context.Context, about *resource.Resource, log *slog.Logger) error {
	wanted, err := tracesWanted()
	if err != nil || !wanted {
		return err
	}
	sender, err := exporter(ctx)
	if err != nil {
		return err
	}
	// The sampler is that of OTEL_TRACES_SAMPLER: by default every trace.
	tracers := sdktrace.NewTracerProvider(sdktrace.WithResource(about), sdktrace.WithBatcher(sender))
	t.Tracers, t.traces = tracers, true
	t.closers = append(t.closers, tracers.Shutdown)
	// The library of the buckets knows no other way to be told.
	otel.SetTracerProvider(tracers)
	log.InfoContext(ctx, "traces are sent")
	return nil
}

func (t *Telemetry) temporalTracing() (interceptor.Interceptor, error) {
	tracing, err := temporalotel.NewTracingInterceptor(temporalotel.TracerOptions{
		Tracer:            t.Tracers.Tracer("go.temporal.io/sdk"),
		TextMapPropagator: Propagator,
		DisableBaggage:    true,
		// A workflow must not stand still for a header that somebody else wrote.
		AllowInvalidParentSpans: true,
	})
	if err != nil {
		return nil, err
	}
	return schedulesUntraced{tracing}, nil
}

// schedulesUntraced lets each run that a schedule starts begin a trace of its
// own. Otherwise all of them, for years, would belong to that in which the
// schedule was made.
type schedulesUntraced struct{ interceptor.Interceptor }

func (s schedulesUntraced) InterceptClient(next interceptor.ClientOutboundInterceptor) interceptor.ClientOutboundInterceptor {
	return clientUntracedSchedules{s.Interceptor.InterceptClient(next), next}
}

type clientUntracedSchedules struct {
	interceptor.ClientOutboundInterceptor
	untraced interceptor.ClientOutboundInterceptor
}

func (c clientUntracedSchedules) CreateSchedule(ctx context.Context, in *interceptor.ScheduleClientCreateInput) (client.ScheduleHandle, error) {
	return c.untraced.CreateSchedule(ctx, in)
}
