package devstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

// ErrNotRunning says that no stack runs on a data directory.
var ErrNotRunning = errors.New("not running")

// RunningError says that another supervisor uses the data directory.
type RunningError struct{ PID int }

func (e *RunningError) Error() string { return fmt.Sprintf("already running (process %d)", e.PID) }

// State has the addresses of a stack that is ready.
type State struct {
	APIURL          string
	TemporalAddress string
	TemporalUIURL   string // empty if the stack does not run Temporal itself
	SamplesURL      string
	DatabaseURL     string
	OwnDatabase     bool              // whether the stack runs this database itself
	Settings        map[string]string // the variables that the stack was started with
}

// Status describes a stack.
type Status struct {
	PID       int    // the supervisor's; 0 if none runs
	State     *State // nil unless the stack is ready
	Stopping  bool
	Processes []ProcessStatus // in the order of their start
}

// ProcessStatus is one process of a stack.
type ProcessStatus struct {
	Name string
	PID  int // 0 while it is stopped, or between an exit and the restart
}

// Control is the supervisor's end of a Unix socket, by which other commands of
// the same user read the status of the stack, stop it, and stop and start single
// processes.
type Control struct {
	lock       *flock.Flock
	server     *http.Server
	supervisor *Supervisor
	stop       context.CancelFunc
	state      atomic.Pointer[State]
	stopping   atomic.Bool
}

// Lock returns this process the sole right to run a stack on the data
// directory, and serves its control socket, both until Close. stop is called,
// perhaps several times, when another command stops the stack. The kernel
// releases the lock when the process ends. The error is a *[RunningError] if
// another process holds it.
func (d Dir) Lock(ctx context.Context, supervisor *Supervisor, stop context.CancelFunc) (*Control, error) {
	if err := d.Create(); err != nil {
		return nil, err
	}
	lock := flock.New(d.lock(), flock.SetPermissions(0o600))
	// The kernel releases the lock of a killed process some milliseconds later.
	lockCtx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	locked, err := lock.TryLockContext(lockCtx, pollInterval)
	if !locked && errors.Is(err, context.DeadlineExceeded) {
		status, err := d.Status(ctx)
		return nil, errors.Join(err, &RunningError{PID: status.PID})
	}
	if err == nil {
		err = removeIfExists(d.control()) // left by a supervisor that was killed
	}
	var listener net.Listener
	if err == nil {
		listener, err = net.Listen("unix", d.control())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", d.Root, err), lock.Unlock())
	}
	control := &Control{lock: lock, supervisor: supervisor, stop: stop}
	control.server = &http.Server{Handler: control.routes()} //nolint:gosec // Its only clients are commands of the same user.
	go func() { _ = control.server.Serve(listener) }()
	return control, nil
}

// SetReady says that the stack is ready.
func (c *Control) SetReady(state State) { c.state.Store(&state) }

// SetStopping says that the stack is stopping.
func (c *Control) SetStopping() {
	c.stopping.Store(true)
	c.state.Store(nil)
}

// Close ends the control socket, after the requests in flight, and releases the
// lock.
func (c *Control) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if c.server.Shutdown(ctx) != nil {
		_ = c.server.Close()
	}
	return c.lock.Unlock()
}

func (c *Control) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(Status{
			PID: os.Getpid(), State: c.state.Load(), Stopping: c.stopping.Load(), Processes: c.supervisor.Processes(),
		})
	})
	mux.HandleFunc("POST /stop", func(http.ResponseWriter, *http.Request) { c.stop() })
	handle := func(pattern string, act func(ctx context.Context, name string) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := act(r.Context(), r.PathValue("name")); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		})
	}
	handle("POST /processes/{name}/start", c.supervisor.StartProcess)
	handle("POST /processes/{name}/stop", func(_ context.Context, name string) error { return c.supervisor.StopProcess(name) })
	return mux
}

// Status returns the status of the stack, also if none runs.
func (d Dir) Status(ctx context.Context) (status Status, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	body, err := d.requestControl(ctx, http.MethodGet, "/status")
	if errors.Is(err, ErrNotRunning) {
		return Status{}, nil
	}
	if err == nil {
		err = json.Unmarshal(body, &status)
	}
	return status, err
}

// StartProcess starts a process of the running stack that StopProcess has
// stopped, and returns when it is ready.
func (d Dir) StartProcess(ctx context.Context, name string) error {
	_, err := d.requestControl(ctx, http.MethodPost, "/processes/"+url.PathEscape(name)+"/start")
	return err
}

// StopProcess stops a process of the running stack, and returns when it has
// exited. It stays stopped until StartProcess, or until the stack is restarted.
func (d Dir) StopProcess(ctx context.Context, name string) error {
	_, err := d.requestControl(ctx, http.MethodPost, "/processes/"+url.PathEscape(name)+"/stop")
	return err
}

// requestControl returns the supervisor's response, or [ErrNotRunning].
func (d Dir) requestControl(ctx context.Context, method, path string) ([]byte, error) {
	if err := checkSocketPath(d.control()); err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", d.control())
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://supervisor"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	for _, gone := range []error{fs.ErrNotExist, syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, gone) {
			return nil, ErrNotRunning
		}
	}
	if err != nil {
		return nil, fmt.Errorf("talk to the supervisor: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(strings.TrimSpace(string(body)))
	}
	return body, err
}
