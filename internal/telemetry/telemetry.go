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

// Telemetry is the metrics and traces of one process. What is not configured
// costs nothing.
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
	// headerTimeout bounds a scraper's request, scrapeTimeout its response:
	// Prometheus waits 10 seconds by default.
	headerTimeout = 5 * time.Second
	scrapeTimeout = 15 * time.Second
	// refreshTimeout bounds how long a scrape waits for PostgreSQL and Temporal.
	// After it, the scrape lacks their metrics.
	refreshTimeout = 3 * time.Second
	// refreshAge is how long their values are reused, so that several scrapers cost
	// no more than one.
	refreshAge = 5 * time.Second
	// flushTimeout bounds sending the last spans when the process stops.
	flushTimeout = 5 * time.Second
)

// seconds are the buckets of all histograms of durations, from a SQL statement to
// the slowest source. OpenTelemetry's default buckets are for milliseconds.
var seconds = []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300}

// httpLabels are the labels of the API's requests. The library's default adds
// the Host header, of which a client can send a new one with each request.
var httpLabels = attribute.NewAllowKeysFilter("http.request.method", "http.route", "http.response.status_code")

// view changes how some metrics of libraries are shown.
func view(i sdkmetric.Instrument) (sdkmetric.Stream, bool) {
	stream := sdkmetric.Stream{Name: i.Name, Description: i.Description, Unit: i.Unit}
	switch {
	case strings.HasPrefix(i.Name, "temporal_") && strings.HasSuffix(i.Name, "_attempt"),
		i.Name == "http.server.request.body.size", i.Name == "http.server.response.body.size":
		stream.Aggregation = sdkmetric.AggregationDrop{} // redundant or useless
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

// Start serves Prometheus' /metrics, /healthz and the handlers of
// [Telemetry.Handle] at metricsAddr, unless that is empty, and starts tracing if
// the OTEL_ variables are set. The service, such as "api", is part of the
// resource's name. The error names the variable that is wrong.
func Start(ctx context.Context, service, metricsAddr string, log *slog.Logger) (*Telemetry, error) {
	t := &Telemetry{
		Meters:  noopmetric.NewMeterProvider(),
		Tracers: nooptrace.NewTracerProvider(),
		mux:     http.NewServeMux(),
	}
	res, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", "photo-processor-"+service),
		attribute.String("service.version", version()),
	), resource.WithFromEnv()) // OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES override
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	if err := t.startTraces(ctx, res, log); err != nil {
		return nil, err
	}
	if t.traces || metricsAddr != "" {
		otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("telemetry", "error", err) }))
	}
	if metricsAddr == "" {
		return t, nil
	}
	if err := t.startMetrics(ctx, res, metricsAddr, log); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

func (t *Telemetry) startMetrics(ctx context.Context, res *resource.Resource, addr string, log *slog.Logger) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo())
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	meters := sdkmetric.NewMeterProvider(
		sdkmetric.WithResource(res),
		sdkmetric.WithReader(exporter),
		sdkmetric.WithView(view),
		sdkmetric.WithExemplarFilter(exemplar.AlwaysOffFilter), // they would cost a reservoir per series
	)
	t.Meters, t.measures = meters, true
	t.closers = append(t.closers, meters.Shutdown)

	metrics := promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog:      slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		Timeout:       scrapeTimeout,
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
			log.Error("metrics are no longer served", "error", err)
		}
	}()
	log.InfoContext(ctx, "metrics are served", "address", listener.Addr().String())
	return nil
}

// HasMetrics reports whether metrics are on.
func (t *Telemetry) HasMetrics() bool { return t.measures }

// HasTraces reports whether traces are on.
func (t *Telemetry) HasTraces() bool { return t.traces }

// Handle serves the pattern, of http.ServeMux, beside /metrics.
func (t *Telemetry) Handle(pattern string, handler http.Handler) { t.mux.Handle(pattern, handler) }

// OnScrape calls read before a scrape, and observe during it with the value that
// read returned; if read fails, the metrics are left out. Metrics that need a
// request to another server are read before, because OpenTelemetry holds a lock
// while it collects metrics, for which the request's own metrics would wait.
func OnScrape[T any](t *Telemetry, meter metric.Meter, read func(context.Context) (T, error), observe func(metric.Observer, T), metrics ...metric.Observable) error {
	var (
		last    atomic.Pointer[T] // nil if unknown
		reading sync.Mutex        // never held while metrics are collected
		at      time.Time
		failing bool // since the last success
	)
	refresh := func(ctx context.Context) {
		reading.Lock()
		defer reading.Unlock()
		if last.Load() != nil && time.Since(at) < refreshAge {
			return
		}
		value, err := read(ctx)
		if err != nil {
			last.Store(nil)
			if !failing { // one line for each outage, not one for each scrape
				failing = true
				otel.Handle(err)
			}
			return
		}
		last.Store(&value)
		at, failing = time.Now(), false
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

// Temporal adds metrics and traces to the options of a client, and so to its
// workers.
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

// Close sends the last spans, for 5 seconds at most, and closes the listener.
func (t *Telemetry) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	for _, closer := range t.closers {
		if err := closer(ctx); err != nil {
			otel.Handle(err)
		}
	}
}

// version returns the program's version from its build information.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
