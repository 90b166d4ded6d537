package devstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

// pollInterval separates two looks at what another process does.
const pollInterval = 25 * time.Millisecond

// ErrNotRunning says that no stack runs on a data directory, or that it is not
// ready yet.
var ErrNotRunning = errors.New("not running")

// RunningError says that another supervisor uses the data directory.
type RunningError struct{ PID int }

func (e *RunningError) Error() string { return fmt.Sprintf("already running (process %d)", e.PID) }

// State has the addresses of a running stack. It is written when the stack is
// ready.
type State struct {
	PID             int    `json:"pid"` // the supervisor's
	APIURL          string `json:"api_url"`
	TemporalAddress string `json:"temporal_address"`
	TemporalUIURL   string `json:"temporal_ui_url"` // empty if the stack does not run Temporal itself
	SamplesURL      string `json:"samples_url"`
	DatabaseURL     string `json:"database_url"`
}

// Lock returns this process the sole right to run a stack on the data
// directory, and removes the state of an earlier one. The kernel releases the
// lock when the process ends. The error is a *[RunningError] if another process
// holds it.
func (d Dir) Lock() (unlock func() error, err error) {
	if err := d.Create(); err != nil {
		return nil, err
	}
	lock := flock.New(d.lock(), flock.SetPermissions(0o600))
	// The kernel releases the lock of a killed process some milliseconds later.
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	locked, err := lock.TryLockContext(ctx, pollInterval)
	if !locked && (err == nil || errors.Is(err, context.DeadlineExceeded)) {
		return nil, &RunningError{PID: readPID(d.lock())}
	}
	if err == nil {
		err = os.WriteFile(d.lock(), fmt.Appendln(nil, os.Getpid()), 0o600)
	}
	if err == nil {
		err = removeIfExists(d.state())
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", d.lock(), err)
	}
	return func() error { return errors.Join(removeIfExists(d.state()), lock.Unlock()) }, nil
}

// Supervisor returns the PID of the supervisor, which holds the lock; 0 if none
// runs. A process that was killed may hold the lock for some milliseconds,
// until its last thread has exited.
func (d Dir) Supervisor() (pid int, err error) {
	if _, err := os.Stat(d.lock()); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	lock := flock.New(d.lock(), flock.SetPermissions(0o600))
	free, err := lock.TryRLock()
	if err != nil {
		return 0, err
	}
	if free {
		return 0, lock.Unlock()
	}
	if pid = readPID(d.lock()); !isRunning(pid) {
		return 0, nil
	}
	return pid, nil
}

// readPID reads the number in a file; 0 if there is none.
func readPID(path string) int {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return pid
}

func removeIfExists(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// WriteState says that the stack is ready. Only the holder of the lock may call
// it.
func (d Dir) WriteState(state State) error {
	state.PID = os.Getpid()
	text, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return err
	}
	// Renamed, so that no reader sees half of it.
	unfinished := d.state() + ".unfinished"
	if err := os.WriteFile(unfinished, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(unfinished, d.state())
}

// ReadState returns the state of a stack that is ready, else [ErrNotRunning].
func (d Dir) ReadState() (State, error) {
	pid, err := d.Supervisor()
	if err != nil {
		return State{}, err
	}
	text, err := os.ReadFile(d.state())
	if errors.Is(err, fs.ErrNotExist) || err == nil && pid == 0 {
		return State{}, ErrNotRunning
	}
	var state State
	if err == nil {
		err = json.Unmarshal(text, &state)
	}
	if err == nil && state.PID != pid {
		err = ErrNotRunning // left by a supervisor that was killed
	}
	return state, err
}

// Status describes a stack to other processes.
type Status struct {
	PID       int             // the supervisor's; 0 if none runs
	State     *State          // nil until the stack is ready
	Processes []ProcessStatus // in the order of their start; none until the stack is ready
}

// ProcessStatus is one process of a stack.
type ProcessStatus struct {
	Name string
	PID  int // 0 while it is stopped, or between an exit and the restart
}

// Status returns the status of the stack, also if none runs.
func (d Dir) Status(ctx context.Context) (Status, error) {
	pid, err := d.Supervisor()
	if err != nil || pid == 0 {
		return Status{}, err
	}
	status := Status{PID: pid}
	state, err := d.ReadState()
	if errors.Is(err, ErrNotRunning) {
		return status, nil
	}
	if err == nil {
		status.State = &state
		status.Processes, err = d.processes(ctx)
	}
	return status, err
}

// Start runs argv, which must take the lock and write the state, in a session
// of its own, so that Ctrl-C and the end of the terminal do not reach it. Start
// returns when the state is written. If argv exits before, the error quotes its
// log; if ctx ends before, argv is stopped. The error is a *[RunningError] if a
// stack runs already.
func Start(ctx context.Context, dir Dir, argv []string) (State, error) {
	if err := dir.Create(); err != nil {
		return State{}, err
	}
	if pid, err := dir.Supervisor(); err != nil || pid != 0 {
		return State{}, errors.Join(err, &RunningError{PID: pid})
	}
	log, logStart, err := openSupervisorLog(dir.Log("dev"))
	if err != nil {
		return State{}, err
	}
	defer log.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return State{}, err
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	for {
		if state, err := dir.ReadState(); err == nil && state.PID == cmd.Process.Pid {
			return state, nil
		}
		select {
		case err := <-exited:
			text, readErr := os.ReadFile(log.Name())
			if readErr != nil {
				return State{}, readErr
			}
			return State{}, fmt.Errorf("it stopped before it was ready (%s)%s", exitReason(err), quoteLog(log.Name(), text[min(logStart, int64(len(text))):]))
		case <-ctx.Done():
			_ = cmd.Process.Signal(syscall.SIGTERM)
			<-exited
			return State{}, fmt.Errorf("waiting until it is ready: %w", ctx.Err())
		case <-time.After(pollInterval):
		}
	}
}

// WaitReady waits for a stack that another process is starting. The error is
// [ErrNotRunning] if there is none any more.
func WaitReady(ctx context.Context, dir Dir) error {
	for {
		_, err := dir.ReadState()
		if !errors.Is(err, ErrNotRunning) {
			return err
		}
		if pid, holderErr := dir.Supervisor(); holderErr != nil || pid == 0 {
			return errors.Join(holderErr, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollInterval):
		}
	}
}

// Stop ends the supervisor and returns when all its processes have exited. The
// error is [ErrNotRunning] if none runs.
func Stop(ctx context.Context, dir Dir) error {
	pid, err := dir.Supervisor()
	if err != nil {
		return err
	}
	if pid == 0 {
		return ErrNotRunning
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop process %d: %w", pid, err)
	}
	for {
		if holder, err := dir.Supervisor(); err != nil || holder != pid {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("process %d is still stopping: %w; see %s", pid, ctx.Err(), dir.Log("dev"))
		case <-time.After(pollInterval):
		}
	}
}
