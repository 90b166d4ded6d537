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

const (
	// startTime includes building Temporal's programs, once on a machine.
	startTime = 30 * time.Minute
	stopTime  = 3 * time.Minute
)

// stack is a running development stack.
type stack struct {
	root  string // a temporary directory; DATA_DIR is in it
	dir   devstack.Dir
	dev   *devstack.Child
	state devstack.State

	api  *client.Client
	db   *postgres.DB // adds photos, as a client of the product would
	conn *pgx.Conn    // looks how far they are
	proc procfs.FS    // has the CPU time and the memory of its processes
}

// startStack starts the development stack with an empty data directory on free
// ports.
func startStack(ctx context.Context, program, name string, boxes []photo.Box) (_ *stack, err error) {
	// Not os.TempDir: PostgreSQL's user must have access, and a socket's path must be
	// short.
	s := &stack{}
	if s.proc, err = procfs.NewDefaultFS(); err != nil {
		return nil, fmt.Errorf("CPU time and memory are measured on Linux alone: %w", err)
	}
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
		value := strconv.Itoa(port)
		if variable == "HTTP_ADDR" {
			value = "127.0.0.1:" + value
		}
		env = append(env, variable+"="+value)
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
		Ready: func(context.Context) (err error) {
			s.state, err = s.dir.ReadState()
			return err
		},
		ReadyTimeout: startTime, StopTimeout: stopTime,
	}
	if s.dev, err = process.Start(ctx); err != nil {
		return nil, err
	}
	s.api = client.New(s.state.APIURL, "")
	if s.db, err = postgres.Open(s.state.DatabaseURL, 1); err != nil {
		return nil, err
	}
	s.conn, err = pgx.Connect(ctx, s.state.DatabaseURL)
	return s, err
}

// ports are the variables of the stack's ports.
var ports = []string{
	"HTTP_ADDR", "DEV_TEMPORAL_PORT", "DEV_TEMPORAL_UI_PORT", "DEV_TEMPORAL_METRICS_PORT", "DEV_POSTGRES_PORT", "DEV_SAMPLES_PORT",
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
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.state.APIURL+"/events", nil)
		if err != nil {
			return nil, errors.Join(err, stop())
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			return nil, errors.Join(err, stop())
		}
		if resp.StatusCode != http.StatusOK {
			return nil, errors.Join(fmt.Errorf("GET /events: %s", resp.Status), resp.Body.Close(), stop())
		}
		reading.Go(func() error {
			defer resp.Body.Close()
			if _, err := io.Copy(io.Discard, resp.Body); ctx.Err() == nil {
				return fmt.Errorf("a watcher was disconnected: %w", err)
			}
			return nil
		})
	}
	return stop, nil
}

// stop stops the stack and deletes its data.
func (s *stack) stop() error {
	var errs []error
	if s.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.conn.Close(ctx)
	}
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
		if !known {
			return nil, fmt.Errorf("unknown process %q in the stack", process.Name)
		}
		if process.PID == 0 {
			return nil, fmt.Errorf("%s does not run", process.Name)
		}
		roles[process.PID] = r
	}
	return roles, nil
}

// versions describes the servers of the stack.
func (s *stack) versions(ctx context.Context) (string, error) {
	var postgresVersion string
	if err := s.conn.QueryRow(ctx, `SHOW server_version`).Scan(&postgresVersion); err != nil {
		return "", err
	}
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
	return fmt.Sprintf("PostgreSQL %s, Temporal %s", postgresVersion, info.GetServerVersion()), nil
}

// addPhotos adds photos to the database, and returns their UUIDs.
func (s *stack) addPhotos(ctx context.Context, urls []string) (ids []string, err error) {
	photos, err := s.db.AddPhotos(ctx, urls)
	for _, p := range photos {
		ids = append(ids, p.UUID.String())
	}
	return ids, err
}

// post posts UUIDs, all of which must be accepted.
func (s *stack) post(ctx context.Context, ids []string) error {
	accepted, _, err := s.api.Process(ctx, ids)
	if err == nil && len(accepted) != len(ids) {
		err = fmt.Errorf("the API accepted %d of %d UUIDs", len(accepted), len(ids))
	}
	return err
}

// waitForAll waits until each photo has its final status.
func (s *stack) waitForAll(ctx context.Context) error {
	for {
		// The query uses an index.
		var unfinished bool
		err := s.conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM photos WHERE status = 'pending')
			OR EXISTS (SELECT FROM photos WHERE status = 'processing')`).Scan(&unfinished)
		if err != nil || !unfinished {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not all photos are completed: %w", ctx.Err())
		case <-time.After(lookInterval):
		}
	}
}

// completions returns when each photo was completed. It fails unless all are, with
// a thumbnail for each box.
func (s *stack) completions(ctx context.Context, ids []string, boxes int) (map[string]time.Time, error) {
	rows, err := s.conn.Query(ctx, `SELECT uuid::text, status, updated_at, coalesce(failure_code, ''), coalesce(failure_message, ''),
		(SELECT count(*) FROM photo_thumbnails WHERE photo_uuid = photos.uuid)
		FROM photos WHERE uuid = ANY ($1)`, ids)
	if err != nil {
		return nil, err
	}
	completed := map[string]time.Time{}
	var id, code, message string
	var status photo.Status
	var updatedAt time.Time
	var thumbnails int
	_, err = pgx.ForEachRow(rows, []any{&id, &status, &updatedAt, &code, &message, &thumbnails}, func() error {
		if status != photo.Completed || thumbnails != boxes {
			return fmt.Errorf("photo %s is %s with %d thumbnails instead of %d: %s %s", id, status, thumbnails, boxes, code, message)
		}
		completed[id] = updatedAt
		return nil
	})
	return completed, err
}
