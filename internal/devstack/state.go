package devstack

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// RunningError says that a data directory is in use.
type RunningError struct {
	// PID is the process that uses it. 0 if it has not said so yet.
	PID int
}

func (e *RunningError) Error() string {
	if e.PID == 0 {
		return "already running"
	}
	return fmt.Sprintf("already running (pid %d)", e.PID)
}

// ErrNotRunning says that no stack runs on a data directory.
var ErrNotRunning = errors.New("not running")

// State is what a running stack tells about itself, for whoever wants to use it. It is written once all of it is ready.
type State struct {
	// PID is the supervisor's.
	PID       int       `json:"pid"`
	StartedAt time.Time `json:"started_at"`

	// Where things are. Empty for what is not there, such as the Web UI of a Temporal that is not ours.
	APIURL          string `json:"api_url,omitempty"`
	TemporalAddress string `json:"temporal_address,omitempty"`
	TemporalUIURL   string `json:"temporal_ui_url,omitempty"`
	SamplesURL      string `json:"samples_url,omitempty"`
	DatabaseURL     string `json:"database_url,omitempty"`
}

// Lock is the right to run a stack on a data directory. The kernel takes it back when its holder dies.
type Lock struct {
	dir   Dir
	flock *flock.Flock
}

// Lock creates the data directory if need be, and takes the lock. The error is a *[RunningError] when another process has it.
//
// A state that an earlier holder has left behind is removed.
func (d Dir) Lock() (*Lock, error) {
	if err := d.Create(); err != nil {
		return nil, err
	}
	lock := flock.New(d.lock(), flock.SetPermissions(0o600))
	if err := d.take(lock); err != nil {
		return nil, err
	}

	err := os.Remove(d.state())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil {
		err = writePIDFile(d.PIDFile(supervisorName), identify(os.Getpid()))
	}
	if err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	return &Lock{dir: d, flock: lock}, nil
}

// take takes the lock. Of a holder that was killed the kernel may take a moment to end the last thread, and only then lets go.
func (d Dir) take(lock *flock.Flock) error {
	for deadline := time.Now().Add(lockTimeout); ; time.Sleep(readyInterval) {
		locked, err := lock.TryLock()
		if err != nil {
			return fmt.Errorf("lock %s: %w", d.lock(), err)
		}
		if locked {
			return nil
		}
		holder, err := d.holder()
		if err != nil || holder.pid != 0 || time.Now().After(deadline) {
			return errors.Join(err, &RunningError{PID: holder.pid})
		}
	}
}

// lockTimeout is how long a lock may be held by nobody who runs: one who is dying, or one who has not written its PID file yet.
const lockTimeout = 2 * time.Second

// supervisorName is the name of the PID file of the process that holds the lock.
const supervisorName = "supervisor"

// Unlock removes the state and gives the lock back.
func (l *Lock) Unlock() error {
	var errs []error
	for _, path := range []string{l.dir.state(), l.dir.PIDFile(supervisorName)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, l.flock.Unlock())...)
}

// holder is the process that has the lock, or a zero processID.
//
// It is not the lock that is asked: taking it for a moment, to see whether one can, would make a start at that moment fail.
func (d Dir) holder() (processID, error) {
	holder, err := readPIDFile(d.PIDFile(supervisorName))
	if err != nil || !holder.running() {
		return processID{}, err
	}
	return holder, nil
}

// WriteState tells everybody that the stack is ready. Only the holder of the lock may do so. PID and StartedAt are filled in when
// zero.
func (d Dir) WriteState(state State) error {
	if state.PID == 0 {
		state.PID = os.Getpid()
	}
	if state.StartedAt.IsZero() {
		state.StartedAt = time.Now().UTC().Truncate(time.Second)
	}
	text, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(d.state(), append(text, '\n'))
}

// ReadState returns the state of the running stack. It returns [ErrNotRunning] also when the stack is not ready yet, or when its
// supervisor was killed.
func (d Dir) ReadState() (State, error) {
	holder, err := d.holder()
	if err != nil {
		return State{}, err
	}
	text, err := os.ReadFile(d.state())
	if errors.Is(err, fs.ErrNotExist) || err == nil && holder.pid == 0 {
		return State{}, ErrNotRunning
	}
	if err != nil {
		return State{}, err
	}
	var state State
	if err := json.Unmarshal(text, &state); err != nil {
		return State{}, fmt.Errorf("%s: %w", d.state(), err)
	}
	if state.PID != holder.pid {
		return State{}, ErrNotRunning
	}
	return state, nil
}

// Status is what can be told about a stack from outside.
type Status struct {
	// PID is the supervisor's, 0 when none runs.
	PID int

	// State is valid once the stack is ready, nil before.
	State *State

	// Processes are the supervised ones that have been started at some time, by name.
	Processes []ProcessStatus
}

// ProcessStatus is one process of a stack.
type ProcessStatus struct {
	Name string

	// PID is 0 while the process does not run, such as between an exit and the restart.
	PID int
}

// Status looks at the stack. It works without one.
func (d Dir) Status() (Status, error) {
	holder, err := d.holder()
	if err != nil {
		return Status{}, err
	}
	status := Status{PID: holder.pid}
	switch state, err := d.ReadState(); {
	case err == nil:
		status.State = &state
	case !errors.Is(err, ErrNotRunning):
		return Status{}, err
	}

	files, err := os.ReadDir(d.pids())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Status{}, err
	}
	for _, file := range files {
		name, isPIDFile := strings.CutSuffix(file.Name(), ".pid")
		if !isPIDFile || name == supervisorName {
			continue
		}
		process, err := readPIDFile(filepath.Join(d.pids(), file.Name()))
		if err != nil {
			return Status{}, err
		}
		if !process.running() {
			process.pid = 0
		}
		status.Processes = append(status.Processes, ProcessStatus{Name: name, PID: process.pid})
	}
	return status, nil
}
