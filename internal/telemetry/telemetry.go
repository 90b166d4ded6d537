package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	noopmetric "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/trace"
	nooptrace "go.opentelemetry.io/otel/trace/noop"
	"go.temporal.io/sdk/client"
	temporalotel "go.temporal.io/sdk/contrib/opentelemetry"
)

// Telemetry is what one process measures and traces, and where it shows it.
// Each part that was not asked for costs nothing.
type Telemetry struct {
	Meters  metric.MeterProvider // does nothing without METRICS_ADDR
	Tracers trace.TracerProvider // does nothing unless the OTEL_ variables ask for traces

	measures, traces bool
	mux              *http.ServeMux

	mu         sync.Mutex
	refreshers []func(context.Context)
	closers    []func(context.Context) error
}

const (
	// headerTimeout bounds the request of a scraper, scrapeTimeout its answer:
	// somewhat longer than Prometheus waits by default.
	headerTimeout = 5 * time.Second
	scrapeTimeout = 15 * time.Second
	// refreshTimeout bounds what a scrape may wait for PostgreSQL and Temporal; it
	// goes on without them.
	refreshTimeout = 3 * time.Second
	// refreshAge is for how long an answer of theirs is shown, so that many
	// scrapers cost no more than one.
	refreshAge = 5 * time.Second
	// flushTimeout is what a process that stops has to get rid of its last spans.
	flushTimeout = 5 * time.Second
)

// seconds are the buckets of every histogram of durations: from what a SQL
// statement takes to what the slowest source may. Those of OpenTelemetry's
// default are for milliseconds.
var seconds = []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300}

// httpLabels are those of our API's requests. The library would add the Host
// header, which a client can make up a new one of for each request.
var httpLabels = attribute.NewAllowKeysFilter("http.request.method", "http.route", "http.response.status_code")

// view says how the libraries' metrics are shown, where not as they come.
func view(i sdkmetric.Instrument) (sdkmetric.Stream, bool) {
	stream := sdkmetric.Stream{Name: i.Name, Description: i.Description, Unit: i.Unit}
	switch {
	case strings.HasPrefix(i.Name, "temporal_") && strings.HasSuffix(i.Name, "_attempt"),
		i.Name == "http.server.request.body.size", i.Name == "http.server.response.body.size":
		stream.Aggregation = sdkmetric.AggregationDrop{} // nearly the same as others, or of no use
	case i.Kind == sdkmetric.InstrumentKindHistogram && i.Unit == "s":
		stream.Aggregation = sdkmetric.AggregationExplicitBucketHistogram{Boundaries: seconds, NoMinMax: true}
		if strings.HasPrefix(i.Name, "http.server.") {
			stream.AttributeFilter = httpLabels
		}
	default:
		return stream, false
	}
	return stream, true
}

// Start begins to measure if metricsAddr is not empty, and serves it there as
// /metrics, in Prometheus' format, beside /healthz and what [Telemetry.Handle]
// adds. It begins to trace if the OTEL_ variables ask for it; see [tracers].
// The service, such as "api", becomes part of the name that both are known by.
func Start(ctx context.Context, service, metricsAddr string, log *slog.Logger) (*Telemetry, error) {
	t := &Telemetry{
		Meters:  noopmetric.NewMeterProvider(),
		Tracers: nooptrace.NewTracerProvider(),
		mux:     http.NewServeMux(),
	}
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", "photo-processor-"+service),
		attribute.String("service.version", version()),
	), resource.WithFromEnv()) // the last one wins: OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	if err := t.trace(ctx, about, log); err != nil {
		return nil, err
	}
	if t.traces || metricsAddr != "" {
		otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("telemetry", "error", err) }))
	}
	if metricsAddr == "" {
		return t, nil
	}
	if err := t.measure(ctx, about, metricsAddr, log); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

func (t *Telemetry) measure(ctx context.Context, about *resource.Resource, addr string, log *slog.Logger) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo())
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	meters := sdkmetric.NewMeterProvider(
		sdkmetric.WithResource(about),
		sdkmetric.WithReader(exporter),
		sdkmetric.WithView(view),
		sdkmetric.WithExemplarFilter(exemplar.AlwaysOffFilter), // a reservoir for each series, which nobody reads
	)
	t.Meters, t.measures = meters, true
	t.closers = append(t.closers, meters.Shutdown)

	metrics := promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		Timeout:  scrapeTimeout,
		// What can be had is better than nothing at all.
		ErrorHandling: promhttp.ContinueOnError,
	})
	t.mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		t.refresh(r.Context())
		metrics.ServeHTTP(w, r)
	})
	t.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"status":"ok"}` + "\n"))
	})
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("METRICS_ADDR: %w", err)
	}
	server := &http.Server{
		Handler:           t.mux,
		ReadHeaderTimeout: headerTimeout,
		WriteTimeout:      scrapeTimeout + headerTimeout,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	t.closers = append(t.closers, func(context.Context) error { return server.Close() })
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics are served no more", "error", err)
		}
	}()
	log.InfoContext(ctx, "metrics are served", "address", listener.Addr().String())
	return nil
}

// Measuring tells whether anybody asked for metrics, Tracing for traces.
func (t *Telemetry) Measuring() bool { return t.measures }

func (t *Telemetry) Tracing() bool { return t.traces }

// Handle serves the pattern, of http.ServeMux, where the metrics are served.
func (t *Telemetry) Handle(pattern string, handler http.Handler) { t.mux.Handle(pattern, handler) }

// OnScrape has ask called before a scrape, and observe during it, with what ask
// gave; not at all if ask failed. Metrics that must be asked for go this way:
// while metrics are collected, OpenTelemetry holds a lock that a request which
// is measured itself may wait for.
func OnScrape[T any](t *Telemetry, meter metric.Meter, ask func(context.Context) (T, error), observe func(metric.Observer, T), metrics ...metric.Observable) error {
	var (
		last   atomic.Pointer[T] // nil: not known
		asking sync.Mutex        // never held while metrics are collected
		at     time.Time
	)
	refresh := func(ctx context.Context) {
		asking.Lock()
		defer asking.Unlock()
		if last.Load() != nil && time.Since(at) < refreshAge {
			return
		}
		value, err := ask(ctx)
		if err != nil {
			last.Store(nil)
			otel.Handle(err)
			return
		}
		last.Store(&value)
		at = time.Now()
	}
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		if value := last.Load(); value != nil {
			observe(o, *value)
		}
		return nil
	}, metrics...)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refreshers = append(t.refreshers, refresh)
	return err
}

func (t *Telemetry) refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	t.mu.Lock()
	refreshers := slices.Clone(t.refreshers)
	t.mu.Unlock()
	var group sync.WaitGroup
	for _, refresh := range refreshers {
		group.Go(func() { refresh(ctx) })
	}
	group.Wait()
}

// Temporal has the client of the options, and the workers made with it, measure
// and trace what they do.
func (t *Telemetry) Temporal(options *client.Options) error {
	if t.measures {
		options.MetricsHandler = temporalotel.NewMetricsHandler(temporalotel.MetricsHandlerOptions{
			Meter:                t.Meters.Meter("go.temporal.io/sdk"),
			OnError:              otel.Handle,
			UseMonotonicCounters: true,
		})
	}
	if t.traces {
		tracing, err := t.temporalTracing()
		if err != nil {
			return fmt.Errorf("trace Temporal: %w", err)
		}
		options.Interceptors = append(options.Interceptors, tracing)
	}
	return nil
}

// Close sends what has not been sent, and ends the listener.
func (t *Telemetry) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	for _, end := range t.closers {
		if err := end(ctx); err != nil {
			otel.Handle(err)
		}
	}
}

// version is that of the running program, by what Go knows of its source.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
