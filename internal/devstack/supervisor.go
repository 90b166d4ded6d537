package devstack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
)

const (
	// firstRestartDelay and maxRestartDelay bound the wait before a process that has exited is started again; it doubles each
	// time, so that one that cannot run costs little and one that could not for a while, say for a full disk, is soon back.
	firstRestartDelay = 200 * time.Millisecond
	maxRestartDelay   = 10 * time.Second

	// stableAfter is how long a process must have run for its next exit to count as the first again.
	stableAfter = time.Minute
)

// Supervisor keeps processes running: it starts them one after the other, starts again whichever exits, and stops all in the
// reverse order, so that none loses what it depends on while it still works.
//
//	           ┌───────── exits: wait 0.2 s, 0.4 s … 10 s ─────────┐
//	           ▼                                                   │
//	Start ─▶ end an orphan ─▶ Prepare ─▶ fork ─▶ Ready? ─▶ running ┴─▶ Stop: StopSignals, at last SIGKILL
//
// The zero value is ready to use, except that Log is required.
type Supervisor struct {
	// Log is told of exits and restarts.
	Log *slog.Logger

	mu        sync.Mutex
	processes []*supervised
	stopped   bool
}

// supervised is one process that a Supervisor keeps running.
type supervised struct {
	process Process
	cancel  context.CancelFunc

	// done is closed when the process has been stopped; err is Child.Stop's then.
	done chan struct{}
	err  error
}

// Start starts the process and returns when it is ready. The error is Process.Start's: a first start that fails is not repeated,
// since its reason is mostly one that somebody must remove. The context bounds the start only.
func (s *Supervisor) Start(ctx context.Context, process Process) error {
	child, err := process.Start(ctx)
	if err != nil {
		return err
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return errors.Join(fmt.Errorf("%s: the supervisor has stopped", process.Name), child.Stop())
	}
	runCtx, cancel := context.WithCancel(context.Background())
	p := &supervised{process: process, cancel: cancel, done: make(chan struct{})}
	s.processes = append(s.processes, p)
	go s.keepRunning(runCtx, p, child)
	return nil
}

// Stop stops all processes, the last one started first, and returns when they have exited. Nothing can be started afterwards. The
// error names those that had to be killed.
func (s *Supervisor) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	var errs []error
	for len(s.processes) > 0 {
		last := len(s.processes) - 1
		p := s.processes[last]
		s.processes = s.processes[:last]
		p.cancel()
		<-p.done
		errs = append(errs, p.err)
	}
	return errors.Join(errs...)
}

// keepRunning restarts the process whenever it exits, until ctx ends; then it stops it.
func (s *Supervisor) keepRunning(ctx context.Context, p *supervised, child *Child) {
	defer close(p.done)
	delays := backoff.NewExponentialBackOff()
	delays.InitialInterval = firstRestartDelay
	delays.MaxInterval = maxRestartDelay
	delays.Multiplier = 2

	for {
		ready := time.Now()
		select {
		case <-ctx.Done():
			p.err = child.Stop()
			return
		case <-child.Done():
		}
		s.Log.Warn("process exited unexpectedly", "process", p.process.Name, "pid", child.PID(), "reason", child.exitReason())
		if time.Since(ready) > stableAfter {
			delays.Reset()
		}
		if child = s.restart(ctx, p.process, delays); child == nil {
			return
		}
	}
}

// restart tries until the process runs again or ctx ends; then it returns nil.
func (s *Supervisor) restart(ctx context.Context, process Process, delays backoff.BackOff) *Child {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(delays.NextBackOff()):
		}
		child, err := process.Start(ctx)
		if err == nil {
			s.Log.Info("process restarted", "process", process.Name, "pid", child.PID())
			return child
		}
		if ctx.Err() == nil {
			s.Log.Error("process could not be restarted, trying again", "process", process.Name, "error", err)
		}
	}
}
