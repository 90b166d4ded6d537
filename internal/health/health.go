// Package health answers /readyz: whether what a process cannot do without is
// there, and which part is not.
package health

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"gocloud.dev/blob"
	"golang.org/x/sync/errgroup"
)

// timeout is how long everything has to answer: less than a load balancer
// waits.
const timeout = 3 * time.Second

// States of a dependency, as clients read them.
const (
	ok          = "ok"
	unreachable = "unreachable"
)

// Check is about one thing that the process needs.
type Check struct {
	Name  string // in the answer, such as "postgresql"
	Title string // in the log, such as "PostgreSQL"
	Ping  func(context.Context) error

	// Missing is what the answer says where Ping fails. Defaults to
	// "unreachable".
	Missing string
	// Optional says that the process is of use without it: it is named all the
	// same.
	Optional bool
	// Details are added for who asks /readyz?verbose. May be nil.
	Details func() any
}

// Bucket gives a Ping that asks whether the bucket is there. Of a bucket of files
// it looks at the directory alone, for to list one file fileblob reads the names
// of all.
func Bucket(bucket *blob.Bucket) func(context.Context) error {
	isDir := func() bool { return bucket.As(new(os.FileInfo)) }
	if isDir() {
		return func(context.Context) error {
			if !isDir() {
				return errors.New("the directory is not there")
			}
			return nil
		}
	}
	return func(ctx context.Context) error {
		accessible, err := bucket.IsAccessible(ctx)
		if err == nil && !accessible {
			err = errors.New("there is no such bucket, or it may not be used")
		}
		return err
	}
}

// Readiness is an http.Handler: 200 if nothing is missing, or else 503. Who may
// ask is for others to decide; errors and details are for Verbose alone.
type Readiness struct {
	Log    *slog.Logger
	Checks []Check
	// Verbose answers ?verbose with errors and details. They may name hosts and
	// users, so that it is not for strangers.
	Verbose bool

	missing sync.Map // whether a Check, by its name, failed when last asked
}

func (rd *Readiness) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	results := make([]error, len(rd.Checks))
	var group errgroup.Group
	for i, check := range rd.Checks {
		group.Go(func() error {
			results[i] = check.Ping(ctx)
			rd.note(r.Context(), check, results[i])
			return nil
		})
	}
	_ = group.Wait()
	if r.Context().Err() != nil {
		return // nobody is there to answer
	}

	status, answer := http.StatusOK, members{{"message", "Ready"}}
	details := members{}
	for i, check := range rd.Checks {
		state := ok
		if results[i] != nil {
			state = unreachable
			if check.Missing != "" {
				state = check.Missing
			}
			if !check.Optional {
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
	body, err := json.Marshal(answer)
	if err != nil {
		panic(err) // an answer of ours that cannot be written as JSON is a defect
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}

// note logs when something has gone away, and when it is back: who asks /readyz
// asks often.
func (rd *Readiness) note(ctx context.Context, check Check, err error) {
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return // who asked has gone
	}
	before, _ := rd.missing.Swap(check.Name, err != nil)
	switch {
	case err != nil && before != true:
		rd.Log.Warn("not ready", "missing", check.Title, "error", err)
	case err == nil && before == true:
		rd.Log.Info("reachable again", "what", check.Title)
	}
}

// members are those of a JSON object, in this order.
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
