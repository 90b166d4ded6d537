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

// Propagator passes trace contexts from the API's clients through Temporal. It
// passes no baggage, which may hold anything.
var Propagator = propagation.TraceContext{}

// tracesEnabled reads OpenTelemetry's variables. Other than in their
// specification, traces are off if no variable mentions them.
func tracesEnabled() (bool, error) {
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

// newExporter returns an exporter for the protocol in the variables. The libraries
// read the other variables: endpoints, headers, certificates, timeouts.
func newExporter(ctx context.Context) (sdktrace.SpanExporter, error) {
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

func (t *Telemetry) startTraces(ctx context.Context, res *resource.Resource, log *slog.Logger) error {
	enabled, err := tracesEnabled()
	if err != nil || !enabled {
		return err
	}
	exporter, err := newExporter(ctx)
	if err != nil {
		return err
	}
	// OTEL_TRACES_SAMPLER sets the sampler, which by default takes all traces.
	tracers := sdktrace.NewTracerProvider(sdktrace.WithResource(res), sdktrace.WithBatcher(exporter))
	t.Tracers, t.traces = tracers, true
	t.closers = append(t.closers, tracers.Shutdown)
	// gocloud.dev reads only this global.
	otel.SetTracerProvider(tracers)
	log.InfoContext(ctx, "traces are sent")
	return nil
}

func (t *Telemetry) temporalTracing() (interceptor.Interceptor, error) {
	tracing, err := temporalotel.NewTracingInterceptor(temporalotel.TracerOptions{
		Tracer:            t.Tracers.Tracer("go.temporal.io/sdk"),
		TextMapPropagator: Propagator,
		DisableBaggage:    true,
		// An invalid header of another client must not fail the workflow.
		AllowInvalidParentSpans: true,
	})
	if err != nil {
		return nil, err
	}
	return schedulesUntraced{tracing}, nil
}

// schedulesUntraced gives each run of a schedule a trace of its own. Otherwise all
// runs would belong to the trace in which the schedule was created.
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
