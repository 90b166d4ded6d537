// Package api is the HTTP API: it adds photos, starts their workflows, and
// shows the results. It reads PostgreSQL and the thumbnails bucket, so that
// reads need neither Temporal nor a worker.
//
// Routes are listed in routes.go, and errors.go maps errors to HTTP statuses.
// The contract is openapi.yaml: the tests validate every response against it,
// and the client in internal/client is generated from it.
package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"go.temporal.io/sdk/client"
	"gocloud.dev/blob"
	"golang.org/x/sync/errgroup"

	"github.com/photo-processor/photo-processor/internal/bucket"
	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/health"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/telemetry"
)

const (
	// headerTimeout and maxHeaderBytes bound the headers of a request.
	headerTimeout  = 10 * time.Second
	maxHeaderBytes = 64 << 10
	// idleTimeout is how long an idle connection stays open.
	idleTimeout = 2 * time.Minute
	// readReserve and responseReserve are added to HTTPTimeout for the server's own
	// timeouts of reading the request and writing the response. A handler's context
	// ends before both, so that the handler can still report that it timed out: the
	// end of ReadTimeout looks like a client that closes the connection.
	// responseReserve is also added to ShutdownTimeout, at whose end the contexts
	// of the requests in flight end.
	readReserve     = 2 * time.Second
	responseReserve = 5 * time.Second
)

// Server has the API's handlers and their dependencies.
type Server struct {
	DB         *postgres.DB
	Temporal   client.Client
	Thumbnails *blob.Bucket
	Namespace  string // of Temporal
	Config     config.Config
	Log        *slog.Logger
	Telemetry  *telemetry.Telemetry // nil: requests are neither measured nor traced

	readiness *health.Readiness
	events    *eventHub
	counter   photoCounter
	stopping  chan struct{} // closed when the server stops; nil if it is not run by Run

	outageLines telemetry.OutageLines
}

// Run serves the API until the context is done, and then finishes the requests
// in flight for at most ShutdownTimeout. Those that still run then are answered
// 503. It starts
// while PostgreSQL, Temporal or the bucket is unreachable, which /readyz shows,
// and migrates the schema as soon as PostgreSQL is reachable. It returns an
// error if one of them fails permanently, such as by refusing the credentials.
func Run(ctx context.Context, cfg config.Config, log *slog.Logger) error {
	tel, err := telemetry.Start(ctx, "api", cfg.MetricsAddr, log)
	if err != nil {
		return err
	}
	defer tel.Close()
	var traced []postgres.Option
	if tel.HasTraces() {
		traced = append(traced, postgres.Traced(tel.Tracers))
	}
	db, err := postgres.Open(cfg.DatabaseURL, cfg.DatabaseMaxConns, traced...)
	if err != nil {
		return err
	}
	defer db.Close()
	thumbnails, err := bucket.Open(ctx, cfg.ThumbnailsBucket)
	if err != nil {
		return fmt.Errorf("THUMBNAILS_BUCKET: %w", err)
	}
	defer thumbnails.Close()
	options, err := config.Temporal(log)
	if err != nil {
		return err
	}
	if err := tel.Temporal(&options); err != nil {
		return err
	}
	temporal, err := client.NewLazyClient(options)
	if err != nil {
		return fmt.Errorf("connect to Temporal: %w", err)
	}
	defer temporal.Close()

	listener, err := net.Listen("tcp", cfg.HTTPAddr)
	if err != nil {
		return fmt.Errorf("HTTP_ADDR: %w", err)
	}
	server := &Server{DB: db, Temporal: temporal, Namespace: cmp.Or(options.Namespace, client.DefaultNamespace), Thumbnails: thumbnails, Config: cfg, Log: log, Telemetry: tel}
	server.readiness = server.newReadiness()
	server.stopping = make(chan struct{})
	server.events = newEventHub(server)
	if err := errors.Join(server.measure(), server.readiness.Measure(tel)); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return db.MigrateWhenReady(ctx, log) })
	group.Go(func() error {
		return bucket.WaitUntilReady(ctx, log, "THUMBNAILS_BUCKET", thumbnails, cfg.BucketTimeout)
	})
	group.Go(func() error { return config.WaitForTemporal(ctx, log, temporal, options) })
	group.Go(func() error { return server.serve(ctx, listener) })
	group.Go(func() error {
		server.readiness.Watch(ctx, cfg.DependencyInterval)
		return nil
	})
	return group.Wait()
}

func (s *Server) serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       s.Config.HTTPTimeout + readReserve,
		WriteTimeout:      s.Config.HTTPTimeout + responseReserve,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	server.RegisterOnShutdown(func() { close(s.stopping) })
	requests, giveUp := context.WithCancelCause(context.WithoutCancel(ctx))
	defer giveUp(nil)
	server.BaseContext = func(net.Listener) context.Context { return requests }
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		s.Log.Info("API stops; requests in flight are finished first", "at_most", s.Config.ShutdownTimeout)
		defer time.AfterFunc(s.Config.ShutdownTimeout, func() { giveUp(errStopping) }).Stop()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Config.ShutdownTimeout+responseReserve)
		defer cancel()
		stopped <- server.Shutdown(ctx)
	})
	defer stop()
	s.Log.Info("API listens", "address", listener.Addr().String())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP: %w", err)
	}
	return <-stopped
}
