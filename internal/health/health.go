// Package health serves /readyz, which reports whether the dependencies of a
// process are reachable, and helps processes wait for them.
package health

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"golang.org/x/sync/errgroup"

	"github.com/photo-processor/photo-processor/internal/telemetry"
)

const (
	// timeout bounds all checks. Load balancers wait longer.
	timeout = 3 * time.Second
	// maxAge is how long the results of the checks are used again: /readyz needs
	// no token, and must not cost the dependencies a request each time.
	maxAge = time.Second
)

// States of a dependency in the response.
const (
	ok          = "ok"
	unreachable = "unreachable"
)

// Check checks one dependency of the process.
type Check struct {
	Name  string // in the response, such as "postgresql"
	Title string // in the log, such as "PostgreSQL"; empty: not logged
	Ping  func(context.Context) error

	// Missing is the state in the response if Ping fails. Defaults to
	// "unreachable".
	Missing string
	// Optional dependencies are reported, but the process is ready without them.
	Optional bool
	// ForWrites marks a dependency of requests that change something. With
	// ?for=reads it is optional.
	ForWrites bool
	// Details returns what /readyz?verbose adds. May be nil.
	Details func() any
}

// Readiness is the handler of /readyz. It answers 200 if all required
// dependencies are reachable, else 503. With ?for=reads the dependencies of
// writes are not required. It does not authenticate. All requests within a second
// share the results of the checks.
type Readiness struct {
	Log    *slog.Logger
	Checks []Check
	// Verbose adds errors and details for ?verbose. They may name hosts and users:
	// not for the public.
	Verbose bool

	mu        sync.Mutex // held while the checks run
	results   []error    // of the last checks; nil before the first
	checkedAt time.Time
	awaySince []time.Time // zero for what is not away
}

// Watch runs the checks at the interval until ctx ends, so that the log says
// when a dependency goes away and when it is back, whether or not anybody
// requests /readyz.
func (rd *Readiness) Watch(ctx context.Context, interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			rd.check()
		}
	}
}

// check returns the results of the checks, which are at most maxAge old.
func (rd *Readiness) check() []error {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	if rd.results != nil && time.Since(rd.checkedAt) < maxAge {
		return rd.results
	}
	// Not the context of a request: others wait for the results, too.
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	results := make([]error, len(rd.Checks))
	var group errgroup.Group
	for i, check := range rd.Checks {
		group.Go(func() error {
			results[i] = check.Ping(ctx)
			return nil
		})
	}
	_ = group.Wait()
	rd.results, rd.checkedAt = results, time.Now()
	if rd.awaySince == nil {
		rd.awaySince = make([]time.Time, len(rd.Checks))
	}
	for i, check := range rd.Checks {
		since := &rd.awaySince[i]
		switch {
		case check.Title == "":
		case results[i] != nil && since.IsZero():
			*since = rd.checkedAt
			rd.Log.Warn(check.Title+" is away", "dependency", check.Name, "error", results[i])
		case results[i] == nil && !since.IsZero():
			rd.Log.Info(check.Title+" is back", "dependency", check.Name, "away_for", rd.checkedAt.Sub(*since).Round(time.Second))
			*since = time.Time{}
		}
	}
	return results
}

// Measure registers a metric of each dependency: 1 if its last check was
// successful, else 0.
func (rd *Readiness) Measure(t *telemetry.Telemetry) error {
	if !t.HasMetrics() {
		return nil
	}
	meter := t.Meters.Meter("github.com/photo-processor/photo-processor/internal/health")
	up, err := meter.Int64ObservableGauge("photo_processor.dependency.up",
		metric.WithDescription("1 if the process can use the dependency, else 0; /readyz?verbose of a worker says why."))
	if err != nil {
		return err
	}
	read := func(context.Context) ([]error, error) { return rd.check(), nil }
	return telemetry.OnScrape(t, meter, read, func(o metric.Observer, results []error) {
		for i, check := range rd.Checks {
			value := int64(1)
			if results[i] != nil {
				value = 0
			}
			o.ObserveInt64(up, value, metric.WithAttributeSet(attribute.NewSet(attribute.String("dependency", check.Name))))
		}
	}, up)
}

func (rd *Readiness) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	purpose := r.URL.Query().Get("for")
	if purpose != "" && purpose != "reads" {
		writeJSON(w, http.StatusBadRequest, members{{"message", `for must be "reads"`}})
		return
	}
	reads := purpose == "reads"
	results := rd.check()
	status, answer := http.StatusOK, members{{"message", "Ready"}}
	details := members{}
	for i, check := range rd.Checks {
		state := ok
		if results[i] != nil {
			state = unreachable
			if check.Missing != "" {
				state = check.Missing
			}
			if required := !check.Optional && (!reads || !check.ForWrites); required {
				status, answer[0].value = http.StatusServiceUnavailable, "Not ready"
			}
			details = append(details, member{check.Name, results[i].Error()})
		} else if check.Details != nil {
			details = append(details, member{check.Name, check.Details()})
		}
		answer = append(answer, member{check.Name, state})
	}
	if rd.Verbose && r.URL.Query().Has("verbose") {
		answer = append(answer, member{"details", details})
	}
	writeJSON(w, status, answer)
}

func writeJSON(w http.ResponseWriter, status int, answer members) {
	body, err := json.Marshal(answer)
	if err != nil {
		panic(err) // a defect
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}

// members are the members of a JSON object, in order.
type members []member

type member struct {
	name  string
	value any
}

func (m members) MarshalJSON() ([]byte, error) {
	var text []byte
	for _, one := range m {
		name, _ := json.Marshal(one.name)
		value, err := json.Marshal(one.value)
		if err != nil {
			return nil, err
		}
		text = slices.Concat(text, []byte(","), name, []byte(":"), value)
	}
	return slices.Concat([]byte("{"), text[min(1, len(text)):], []byte("}")), nil
}
