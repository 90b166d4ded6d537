package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/metric"
	noopmetric "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
)

// Option changes how a database is opened.
type Option func(*pgxpool.Config)

// Traced makes a span of each statement, with its text, and without its
// parameters: a photo's URL is one.
func Traced(tracers trace.TracerProvider) Option {
	return func(cfg *pgxpool.Config) {
		cfg.ConnConfig.Tracer = otelpgx.NewTracer(
			otelpgx.WithTracerProvider(tracers),
			otelpgx.WithMeterProvider(noopmetric.NewMeterProvider()),
			otelpgx.WithDisableAcquireTracer(),
			otelpgx.WithDisableConnectionDetailsInAttributes(),
		)
	}
}

// Measure has the meters show the state of the pool.
func (db *DB) Measure(meters metric.MeterProvider) error {
	return otelpgx.RecordStats(db.pool, otelpgx.WithStatsMeterProvider(meters))
}

// What Backlog counts, and at how many rows it looks, is bounded, and so what it
// costs: eight milliseconds where there are a million
// photos.
const (
	backlogLimit = 10_000
	oldestLimit  = 1_000
)

// Backlog is how many photos have not been finished, up to 10,000 of each
// status, and how long the oldest of them has been waiting; 0 if there is none.
type Backlog struct {
	Pending    int
	PendingFor time.Duration // since the photo was added

	Processing    int
	ProcessingFor time.Duration // since its run began
}

// Backlog takes a photo's age from the 1,000 that were added first: one that is
// stuck becomes one of those as others are finished.
func (db *DB) Backlog(ctx context.Context) (b Backlog, err error) {
	var pending, processing float64
	err = db.pool.QueryRow(ctx, `SELECT
		(SELECT count(*) FROM (SELECT FROM photos WHERE status = 'pending' ORDER BY created_at, uuid LIMIT $1) AS oldest),
		coalesce((SELECT extract(epoch FROM now() - created_at) FROM photos WHERE status = 'pending' ORDER BY created_at, uuid LIMIT 1), 0)::float8,
		(SELECT count(*) FROM (SELECT FROM photos WHERE status = 'processing' ORDER BY created_at, uuid LIMIT $1) AS oldest),
		coalesce((SELECT extract(epoch FROM now() - min(since)) FROM (
			SELECT coalesce(run_started_at, updated_at) AS since FROM photos WHERE status = 'processing' ORDER BY created_at, uuid LIMIT $2
		) AS oldest), 0)::float8`,
		backlogLimit, oldestLimit).Scan(&b.Pending, &pending, &b.Processing, &processing)
	if err != nil {
		return Backlog{}, fmt.Errorf("look at the backlog: %w", translate(err))
	}
	b.PendingFor = time.Duration(pending * float64(time.Second))
	b.ProcessingFor = time.Duration(processing * float64(time.Second))
	return b, nil
}
