package telemetry_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	temporalclient "go.temporal.io/sdk/client"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/telemetry"
)

// receiver is an OTLP collector that keeps all spans.
type receiver struct {
	url string

	mu    sync.Mutex
	spans []*tracepb.Span
	all   string // all spans, as text
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		var request collectorpb.ExportTraceServiceRequest
		if err != nil || req.URL.Path != "/v1/traces" || proto.Unmarshal(body, &request) != nil {
			http.Error(w, "this is no export of traces", http.StatusBadRequest)
			return
		}
		r.keep(&request)
	}))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func (r *receiver) keep(request *collectorpb.ExportTraceServiceRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all += protojson.Format(request)
	for _, resource := range request.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			r.spans = append(r.spans, scope.GetSpans()...)
		}
	}
}

// path returns the names of the span's ancestors and its own, from the root, and
// whether the root's parent is the client's span.
func (r *receiver) path(span *tracepb.Span, client string) ([]string, bool) {
	names := []string{span.GetName()}
	for {
		parent := hex.EncodeToString(span.GetParentSpanId())
		if parent == client {
			return names, true
		}
		i := slices.IndexFunc(r.spans, func(s *tracepb.Span) bool { return hex.EncodeToString(s.GetSpanId()) == parent })
		if i < 0 {
			return names, false
		}
		span = r.spans[i]
		names = slices.Insert(names, 0, span.GetName())
	}
}

// TestOneRequestIsOneTrace follows a POST to the last SQL statement.
func TestOneRequestIsOneTrace(t *testing.T) {
	collector := newReceiver(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
	b := setup(t, nil)

	const traceID, clientSpan = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	withSecrets := strings.Replace(b.source, "http://", "http://alice:hunter2@", 1) + "/moved/secretpath.jpg?token=swordfish"
	shown := b.process(t, withSecrets, http.Header{
		"Traceparent": {fmt.Sprintf("00-%s-%s-01", traceID, clientSpan)},
		"Tracestate":  {"vendor=x"}, "Baggage": {"who=alice"},
	})
	require.Equal(t, photo.Completed, shown.Status)
	b.logs.await(t, "photo completed", shown.UUID)
	require.Equal(t, []string{traceID}, traceIDs(b.logs.lines(t, "photo completed")), "the log leads to the trace")
	b.stop() // and so sends what it has

	var paths []string
	for _, span := range collector.spans {
		if hex.EncodeToString(span.GetTraceId()) != traceID {
			continue
		}
		names, connected := collector.path(span, clientSpan)
		require.True(t, connected, "%v hangs below nothing", names)
		paths = append(paths, strings.Join(names, " > "))
	}
	slices.Sort(paths)
	const run = "POST /photos/process > StartWorkflow:ProcessPhoto > RunWorkflow:ProcessPhoto > "
	for _, want := range []string{
		"POST /photos/process",
		run + "StartActivity:MarkProcessing > RunActivity:MarkProcessing > UPDATE",
		run + "StartActivity:FetchSource > RunActivity:FetchSource > SELECT",
		run + "StartActivity:FetchSource > RunActivity:FetchSource > GET",
		run + "StartActivity:MakeThumbnails > RunActivity:MakeThumbnails > gocloud.dev/blob.NewWriter",
		run + "StartActivity:MakeThumbnails > RunActivity:MakeThumbnails > batch start > INSERT",
		run + "StartActivity:Finish > RunActivity:Finish > UPDATE",
	} {
		require.Contains(t, paths, want, strings.Join(paths, "\n"))
	}

	require.Len(t, b.headers, 2, "the redirect, and where it led")
	for range 2 {
		header := <-b.headers
		for _, name := range []string{"Traceparent", "Tracestate", "Baggage"} {
			require.NotContains(t, header, name, "is nobody's business out there")
		}
	}
	require.NotEmpty(t, collector.all)
	for _, secret := range []string{"alice", "hunter2", "swordfish", "opensesame", "secretpath", "moved"} {
		require.NotContains(t, collector.all, secret)
	}
	for _, line := range b.logs.lines(t, "") {
		for _, secret := range []string{"hunter2", "swordfish", "opensesame"} {
			require.NotContains(t, fmt.Sprint(line), secret)
		}
	}
}

func traceIDs(lines []map[string]any) (ids []string) {
	for _, line := range lines {
		ids = append(ids, fmt.Sprint(line["trace_id"]))
	}
	return ids
}

// grpcReceiver has the same receiver take them over gRPC.
type grpcReceiver struct {
	*receiver
	collectorpb.UnimplementedTraceServiceServer
}

func (r grpcReceiver) Export(_ context.Context, request *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	r.keep(request)
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

func TestTracesAreSentAsTheVariablesSay(t *testing.T) {
	collector := newReceiver(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer()
	collectorpb.RegisterTraceServiceServer(server, grpcReceiver{receiver: collector})
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	overHTTP, overGRPC := collector.url, "http://"+listener.Addr().String()

	for name, c := range map[string]struct {
		variables map[string]string
		want      bool
	}{
		"nothing is said":      {nil, false},
		"an endpoint":          {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": overHTTP}, true},
		"one for traces":       {map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": overHTTP + "/v1/traces"}, true},
		"gRPC":                 {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": overGRPC, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, true},
		"turned off":           {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": overHTTP, "OTEL_SDK_DISABLED": "true"}, false},
		"no exporter":          {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": overHTTP, "OTEL_TRACES_EXPORTER": "none"}, false},
		"exporter by name":     {map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": overHTTP + "/v1/traces"}, true},
		"a sampler of none":    {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": overHTTP, "OTEL_TRACES_SAMPLER": "always_off"}, false},
		"a service's own name": {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": overHTTP, "OTEL_SERVICE_NAME": "thumbs"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			for name, value := range c.variables {
				t.Setenv(name, value)
			}
			tel, err := telemetry.Start(t.Context(), "test", "", slog.New(slog.NewTextHandler(t.Output(), nil)))
			require.NoError(t, err)
			_, span := tel.Tracers.Tracer("test").Start(t.Context(), "a span of "+t.Name())
			span.End()
			var options temporalclient.Options
			require.NoError(t, tel.Temporal(&options))
			require.Nil(t, options.MetricsHandler)
			require.Equal(t, tel.HasTraces(), len(options.Interceptors) == 1, "no interceptor where nothing is traced")
			tel.Close()
			require.Equal(t, c.want, strings.Contains(collector.all, "a span of "+t.Name()), collector.all)
			if own := c.variables["OTEL_SERVICE_NAME"]; own != "" {
				require.Contains(t, collector.all, own)
			}
		})
	}
	require.Contains(t, collector.all, "photo-processor-test")
}

func TestMistakesAreReported(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	start := func(metricsAddr string) error {
		_, err := telemetry.Start(t.Context(), "test", metricsAddr, slog.New(slog.DiscardHandler))
		return err
	}
	require.ErrorContains(t, start(taken.Addr().String()), "METRICS_ADDR: ")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon")
	require.ErrorContains(t, start(""), "OTEL_EXPORTER_OTLP_PROTOCOL: must be ")
	t.Setenv("OTEL_TRACES_EXPORTER", "zipkin")
	require.ErrorContains(t, start(""), "OTEL_TRACES_EXPORTER: must be ")
}
