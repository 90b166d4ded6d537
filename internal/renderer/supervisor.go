package renderer

import (
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"
)

const (
	// maxGrowth is how much the memory of a process may grow, in
	// bytes, after it has become ready. A large picture leaves some memory
	// behind; a process that has grown more is replaced, which returns the
	// memory.
	maxGrowth = 256 << 20

	// idlePoll is the interval at which the worker measures the memory of an
	// idle process. A picture may have left threads in it.
	idlePoll = time.Second

	// firstPause and maxPause bound the backoff between starts, once two
	// processes in a row have failed on their first picture or before it. The
	// first such process is replaced at once, because a bad picture may have
	// been the cause. The upper bound is the longest time by which a queue of
	// bad pictures delays each good one.
	firstPause = 100 * time.Millisecond
	maxPause   = 2 * time.Second
)

// supervise keeps one process running until the renderer is closed. It sends
// the result of the first start to started, and returns if that start failed.
func (r *Renderer) supervise(started chan<- error) {
	pauses := &backoff.ExponentialBackOff{InitialInterval: firstPause, Multiplier: 2, RandomizationFactor: 0.2, MaxInterval: maxPause}
	pauses.Reset()
	failures := 0 // processes in a row that failed on their first picture or before it
	for first := true; r.closing.Err() == nil; first = false {
		if failures > 1 && !r.pause(pauses.NextBackOff()) {
			return
		}
		p, err := r.start()
		if err == nil {
			r.count(p, 1) // before started: Ready must succeed once New returns
		}
		if first {
			started <- err
			if err != nil {
				return
			}
		}
		if errors.Is(err, ErrClosed) {
			return
		}
		if err != nil {
			r.config.Log.Error("a render process does not start; it is started again", "error", err)
			failures++
			continue
		}
		failedFirst := r.serve(p)
		r.count(p, -1)
		if failedFirst {
			failures++
		} else {
			failures = 0
			pauses.Reset()
		}
	}
}

// count adds n to the number of running processes.
func (r *Renderer) count(p *process, n int64) {
	r.running.Add(n)
	if !p.confined {
		r.partial.Add(n)
	}
}

// pause waits for d. It returns false as soon as the renderer is closed.
func (r *Renderer) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.closing.Done():
		return false
	}
}

// serve passes jobs to the process while it is healthy, then kills it. It
// returns true if the process exited, or must be replaced, before it had
// rendered a picture: then the next start may be delayed.
func (r *Renderer) serve(p *process) (failedFirst bool) {
	defer p.killAndWait()
	idle := time.NewTicker(idlePoll)
	defer idle.Stop()
	for served := 0; ; {
		if served >= r.config.MaxPictures || p.growth() > maxGrowth {
			return false
		}
		select {
		case <-idle.C:
		case j := <-r.jobs:
			got, after := r.render(p, j)
			if errors.Is(got.err, errSourceNotSent) {
				go r.submit(j) // to another process
			} else {
				j.result <- got
			}
			if after != healthy {
				return served == 0 && after == mustReplace
			}
			served++
		case <-p.exited:
			r.config.Log.Warn("an idle render process exited; a new one is started", "process", p.pid(), "ended", p.exitState())
			return served == 0
		case <-r.closing.Done():
			return false
		}
	}
}
