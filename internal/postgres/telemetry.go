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

// Option is an option of Open.
type Option func(*pgxpool.Config)

// Traced records a span for each statement. The span has the statement's text,
// but not its parameters, one of which may be a photo's URL.
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

// Measure registers metrics of the pool's connections.
func (db *DB) Measure(meters metric.MeterProvider) error {
	return otelpgx.RecordStats(db.pool, otelpgx.WithStatsMeterProvider(meters))
}

// The limits bound the rows that Backlog reads: it takes 8 ms with a million
// photos.
const (
	backlogLimit = 10_000 // largest count of a status
	oldestLimit  = 1_000  // processing photos among which the oldest run is searched
)

// Backlog has the number of unfinished photos, up to 10,000 of each status, and
// the age of the oldest; 0 if there is none.
type Backlog struct {
	Pending    int
	PendingFor time.Duration // since the oldest photo was added

	Processing    int
	ProcessingFor time.Duration // since the oldest run started

	Batches int // open ones; not limited
}

// Backlog reads the backlog. It searches the oldest run among the 1,000
// processing photos that were added first. A stuck photo becomes one of them as
// others finish.
func (db *DB) Backlog(ctx context.Context) (b Backlog, err error) {
	var pending, processing float64
	err = db.pool.QueryRow(ctx, `SELECT
		(SELECT count(*) FROM (SELECT FROM photos WHERE status = 'pending' ORDER BY created_at, uuid LIMIT $1) AS oldest),
		coalesce((SELECT extract(epoch FROM now() - created_at) FROM photos WHERE status = 'pending' ORDER BY created_at, uuid LIMIT 1), 0)::float8,
		(SELECT count(*) FROM (SELECT FROM photos WHERE status = 'processing' ORDER BY created_at, uuid LIMIT $1) AS oldest),
		coalesce((SELECT extract(epoch FROM now() - min(since)) FROM (
			SELECT coalesce(run_started_at, updated_at) AS since FROM photos WHERE status = 'processing' ORDER BY created_at, uuid LIMIT $2
		) AS oldest), 0)::float8,
		(SELECT count(*) FROM batches WHERE done_at IS NULL)`,
		backlogLimit, oldestLimit).Scan(&b.Pending, &pending, &b.Processing, &processing, &b.Batches)
	if err != nil {
		return Backlog{}, fmt.Errorf("read the backlog: %w", translate(err))
	}
	b.PendingFor = time.Duration(pending * float64(time.Second))
	b.ProcessingFor = time.Duration(processing * float64(time.Second))
	return b, nil
}
