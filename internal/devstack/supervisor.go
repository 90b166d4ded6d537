package devstack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
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
	pid     atomic.Int64 // 0 unless it runs

	mu     sync.Mutex // held while it is started or stopped
	cancel context.CancelFunc
	done   chan struct{} // closed when the process has been stopped; nil until it is started
	err    error         // Child.Stop's, valid once done is closed
}

// Start starts the process and returns when it is ready. A first start that
// fails is not repeated: its error is Process.Start's. Later, ctx has no
// effect.
func (s *Supervisor) Start(ctx context.Context, process Process) error {
	process.log = newProcessLog(process.LogFile)
	p := &supervised{process: process}
	if err := s.start(ctx, p); err != nil {
		return err
	}
	s.mu.Lock()
	stopped := s.stopped
	if !stopped {
		s.processes = append(s.processes, p)
	}
	s.mu.Unlock()
	if stopped {
		return errors.Join(fmt.Errorf("%s: the supervisor has stopped", process.Name), p.stop())
	}
	return nil
}

// start starts the process, unless it runs or waits for its restart.
func (s *Supervisor) start(ctx context.Context, p *supervised) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cancel != nil {
		return nil
	}
	child, err := p.process.Start(ctx)
	if err != nil {
		return err
	}
	p.pid.Store(int64(child.PID()))
	runCtx, cancel := context.WithCancel(context.Background())
	p.cancel, p.done = cancel, make(chan struct{})
	go func() {
		defer close(p.done)
		p.err = s.keepRunning(runCtx, p, child)
	}()
	return nil
}

// stop stops the process, unless it is stopped, and returns when it has exited.
func (p *supervised) stop() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cancel == nil {
		return nil
	}
	p.cancel()
	<-p.done
	p.cancel = nil
	return p.err
}

// Stop stops all processes, the last one first, and returns when they have
// exited. The error names those that had to be killed.
func (s *Supervisor) Stop() (err error) {
	s.mu.Lock()
	s.stopped = true
	processes := s.processes
	s.mu.Unlock()
	for _, p := range slices.Backward(processes) {
		err = errors.Join(err, p.stop())
	}
	return err
}

// StartProcess starts a process again that StopProcess has stopped, and returns
// when it is ready.
func (s *Supervisor) StartProcess(ctx context.Context, name string) error {
	p, err := s.find(name)
	if err != nil {
		return err
	}
	err = s.start(ctx, p)
	s.mu.Lock()
	stopped := s.stopped
	s.mu.Unlock()
	if err == nil && stopped { // meanwhile
		err = errors.Join(errors.New("the supervisor has stopped"), p.stop())
	}
	return err
}

// StopProcess stops one process, which then is not restarted, and returns when
// it has exited.
func (s *Supervisor) StopProcess(name string) error {
	p, err := s.find(name)
	if err != nil {
		return err
	}
	return p.stop()
}

func (s *Supervisor) find(name string) (*supervised, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]string, len(s.processes))
	for i, p := range s.processes {
		if names[i] = p.process.Name; names[i] == name {
			return p, nil
		}
	}
	return nil, fmt.Errorf("there is no process %q; there are %q", name, names)
}

// Processes returns the status of each process, in the order of their start.
func (s *Supervisor) Processes() []ProcessStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]ProcessStatus, len(s.processes))
	for i, p := range s.processes {
		list[i] = ProcessStatus{Name: p.process.Name, PID: int(p.pid.Load())}
	}
	return list
}

// keepRunning restarts the process whenever it exits, until ctx ends; then it
// stops it. The error is Child.Stop's.
func (s *Supervisor) keepRunning(ctx context.Context, p *supervised, child *Child) error {
	defer p.pid.Store(0)
	log := s.Log.With("process", p.process.Name)
	delays := &backoff.ExponentialBackOff{InitialInterval: 200 * time.Millisecond, Multiplier: 2, MaxInterval: 10 * time.Second}
	for {
		started := time.Now()
		select {
		case <-ctx.Done():
			return child.Stop()
		case <-child.Done():
			p.pid.Store(0)
			log.Warn("process exited unexpectedly", "pid", child.PID(), "reason", exitReason(child.err))
		}
		if time.Since(started) > stableAfter {
			delays.Reset()
		}
		failures := 0
		for child = nil; child == nil; {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(delays.NextBackOff()):
			}
			var err error
			if child, err = p.process.Start(ctx); err != nil && ctx.Err() == nil {
				// Once, because the error quotes a part of the process's log.
				if failures++; failures == 1 {
					log.Error("process could not be restarted, trying again", "error", err)
				}
			}
		}
		p.pid.Store(int64(child.PID()))
		log.Info("process restarted", "pid", child.PID(), "failed_attempts", failures)
	}
}
