package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/procfs"
	"go.temporal.io/api/workflowservice/v1"
	temporalclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"golang.org/x/sync/errgroup"

	"github.com/photo-processor/photo-processor/internal/client"
	"github.com/photo-processor/photo-processor/internal/devstack"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
)

// The stacks that can be measured.
const (
	native  = "native"
	cluster = "cluster" // photo-processor-dev run --cluster
)

// stack is a running development stack.
type stack struct {
	root  string // a temporary directory; DATA_DIR is in it
	dir   devstack.Dir
	dev   *devstack.Child
	state devstack.State

	api  *client.Client
	db   *postgres.DB // adds photos, and reads how far they are
	proc procfs.FS    // has the CPU time and the memory of the processes
}

// startStack starts the development stack with an empty data directory on free
// ports.
func startStack(ctx context.Context, proc procfs.FS, program, name string, boxes []photo.Box) (_ *stack, err error) {
	// Not os.TempDir: PostgreSQL's user must have access, and a socket's path must be
	// short.
	s := &stack{proc: proc}
	if s.root, err = os.MkdirTemp("/tmp", "photo-processor-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	if err := os.Chmod(s.root, 0o711); err != nil {
		return nil, err
	}
	data := filepath.Join(s.root, "data")
	env := append(os.Environ(),
		"DATA_DIR="+data,
		"THUMBNAIL_SIZES="+sizesText(boxes),
		// Its own servers and buckets.
		"DATABASE_URL=", "TEMPORAL_ADDRESS=", "TEMPORAL_NAMESPACE=", "THUMBNAILS_BUCKET=", "API_TOKEN=", "RENDERER_PATH=",
		// Where photoServer is.
		"SOURCE_ALLOW_CIDRS=127.0.0.1/32")
	for _, variable := range ports {
		port, err := devstack.FreePort()
		if err != nil {
			return nil, err
		}
		env = append(env, variable+strconv.Itoa(port))
	}
	if s.dir, err = devstack.NewDir(data); err != nil {
		return nil, err
	}
	args := []string{"run"}
	if name == cluster {
		args, s.dir = append(args, "--cluster"), s.dir.Cluster()
	}
	process := devstack.Process{
		Name: "photo-processor-dev", Path: program + "-dev", Args: args, Env: env,
		LogFile: filepath.Join(s.root, "dev.log"),
		Ready: func(ctx context.Context) error {
			status, err := s.dir.Status(ctx)
			if err == nil && status.State == nil {
				return devstack.ErrNotRunning
			}
			if err == nil {
				s.state = *status.State
			}
			return err
		},
		ReadyTimeout: 30 * time.Minute, // Temporal's programs are built, once on a machine
		StopTimeout:  3 * time.Minute,
	}
	if s.dev, err = process.Start(ctx); err != nil {
		return nil, err
	}
	s.api = client.New(s.state.APIURL, "")
	// One connection waits for the batch, the other adds single photos.
	s.db, err = postgres.Open(s.state.DatabaseURL, 2)
	return s, err
}

// ports are the variables of the stack's ports, as far as the number.
var ports = []string{
	"HTTP_ADDR=127.0.0.1:", "DEV_TEMPORAL_PORT=", "DEV_TEMPORAL_UI_PORT=", "DEV_TEMPORAL_METRICS_PORT=", "DEV_POSTGRES_PORT=", "DEV_SAMPLES_PORT=",
}

// watch has clients read GET /events until stop is called, which returns an
// error if one of them was disconnected. Their CPU time is this program's.
func (s *stack) watch(ctx context.Context, clients int) (stop func() error, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var reading errgroup.Group
	transport := &http.Transport{}
	stop = func() error {
		cancel()
		transport.CloseIdleConnections()
		return reading.Wait()
	}
	for range clients {
		body, err := s.openEvents(ctx, transport)
		if err != nil {
			return nil, errors.Join(err, stop())
		}
		reading.Go(func() error {
			defer body.Close()
			if _, err := io.Copy(io.Discard, body); ctx.Err() == nil {
				return fmt.Errorf("a watcher was disconnected: %w", err)
			}
			return nil
		})
	}
	return stop, nil
}

func (s *stack) openEvents(ctx context.Context, transport *http.Transport) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.state.APIURL+"/events", nil)
	if err != nil {
		return nil, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("GET /events: %s", resp.Status), resp.Body.Close())
	}
	return resp.Body, nil
}

// stop stops the stack and deletes its data.
func (s *stack) stop() error {
	var errs []error
	if s.db != nil {
		s.db.Close()
	}
	if s.dev != nil {
		errs = append(errs, s.dev.Stop())
	}
	return errors.Join(append(errs, os.RemoveAll(s.root))...)
}

// supervised returns the roles of the supervised processes, by PID.
func (s *stack) supervised(ctx context.Context) (map[int]role, error) {
	status, err := s.dir.Status(ctx)
	if err != nil {
		return nil, err
	}
	roles := map[int]role{status.PID: devRole}
	for _, process := range status.Processes {
		r, known := roleOf(process.Name)
		if !known || process.PID == 0 {
			return nil, fmt.Errorf("the stack's process %q is unknown or does not run", process.Name)
		}
		roles[process.PID] = r
	}
	return roles, nil
}

// versions describes the servers of the stack.
func (s *stack) versions(ctx context.Context) (string, error) {
	conn, err := pgx.Connect(ctx, s.state.DatabaseURL)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	temporal, err := temporalclient.DialContext(ctx, temporalclient.Options{
		HostPort: s.state.TemporalAddress, Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
	if err != nil {
		return "", err
	}
	defer temporal.Close()
	info, err := temporal.WorkflowService().GetSystemInfo(ctx, &workflowservice.GetSystemInfoRequest{})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("PostgreSQL %s, Temporal %s", conn.PgConn().ParameterStatus("server_version"), info.GetServerVersion()), nil
}

// addPhotos adds photos to the database, and returns their UUIDs.
func (s *stack) addPhotos(ctx context.Context, urls []string) (ids []uuid.UUID, err error) {
	photos, err := s.db.AddPhotos(ctx, urls)
	for _, p := range photos {
		ids = append(ids, p.UUID)
	}
	return ids, err
}

// post posts UUIDs, all of which must be accepted.
func (s *stack) post(ctx context.Context, ids ...uuid.UUID) error {
	inputs := make([]string, len(ids))
	for i, id := range ids {
		inputs[i] = id.String()
	}
	accepted, _, err := s.api.Process(ctx, inputs)
	if err == nil && len(accepted) != len(ids) {
		err = fmt.Errorf("the API accepted %d of %d UUIDs", len(accepted), len(ids))
	}
	return err
}

// waitForAll waits until each photo has its final status.
func (s *stack) waitForAll(ctx context.Context) error {
	for _, status := range []photo.Status{photo.Pending, photo.Processing} {
		for {
			photos, err := s.db.Photos(ctx, status, postgres.Cursor{}, 1)
			if err != nil {
				return err
			}
			if len(photos) == 0 {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("not all photos are completed: %w", ctx.Err())
			case <-time.After(lookInterval):
			}
		}
	}
	return nil
}

// completions returns when each photo was completed. It fails unless all are, with
// a thumbnail for each box.
func (s *stack) completions(ctx context.Context, ids []uuid.UUID, boxes int) (map[uuid.UUID]time.Time, error) {
	completed := map[uuid.UUID]time.Time{}
	for _, id := range ids {
		p, err := s.db.Photo(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("photo %s: %w", id, err)
		}
		if p.Status != photo.Completed || len(p.Thumbnails) != boxes {
			err = fmt.Errorf("photo %s is %s with %d thumbnails instead of %d", id, p.Status, len(p.Thumbnails), boxes)
			if p.Failure != nil {
				err = fmt.Errorf("%w: %w", err, p.Failure)
			}
			return nil, err
		}
		completed[id] = p.UpdatedAt
	}
	return completed, nil
}
