package devstack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// stableAfter is how long a process must have run for the delay before its next
// restart to be reset to 0.2 s.
const stableAfter = time.Minute

// Supervisor keeps processes running. It starts them one after the other,
// restarts whichever exits, after 0.2 s at first and 10 s at most, and stops
// them in reverse order. The zero value is ready to use, but for Log.
type Supervisor struct {
	Log *slog.Logger // of exits and restarts

	mu        sync.Mutex
	processes []*supervised
	stopped   bool
}

// supervised is one process that a Supervisor keeps running.
type supervised struct {
	process Process
	cancel  context.CancelFunc
	done    chan struct{} // closed when the process has been stopped
	err     error         // Child.Stop's, valid once done is closed
}

// Start starts the process and returns when it is ready. A first start that
// fails is not repeated: its error is Process.Start's. Later, ctx has no
// effect.
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

// Stop stops all processes, the last one first, and returns when they have
// exited. The error names those that had to be killed.
func (s *Supervisor) Stop() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	for _, p := range slices.Backward(s.processes) {
		p.cancel()
		<-p.done
		err = errors.Join(err, p.err)
	}
	s.processes = nil
	return err
}

// keepRunning restarts the process whenever it exits, until ctx ends; then it
// stops it.
func (s *Supervisor) keepRunning(ctx context.Context, p *supervised, child *Child) {
	defer close(p.done)
	log := s.Log.With("process", p.process.Name)
	delays := &backoff.ExponentialBackOff{InitialInterval: 200 * time.Millisecond, Multiplier: 2, MaxInterval: 10 * time.Second}
	for {
		started := time.Now()
		select {
		case <-ctx.Done():
			p.err = child.Stop()
			return
		case <-child.Done():
			log.Warn("process exited unexpectedly", "pid", child.PID(), "reason", exitReason(child.err))
		}
		if time.Since(started) > stableAfter {
			delays.Reset()
		}
		for child = nil; child == nil; {
			select {
			case <-ctx.Done():
				return
			case <-time.After(delays.NextBackOff()):
			}
			var err error
			if child, err = p.process.Start(ctx); err != nil && ctx.Err() == nil {
				log.Error("process could not be restarted, trying again", "error", err)
			}
		}
		log.Info("process restarted", "pid", child.PID())
	}
}
