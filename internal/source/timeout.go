package source

import (
	"errors"
	"io"
	"time"
)

// The causes with which a download's context ends when the source exceeds a
// time limit.
var (
	errFetchTimeout = errors.New("the fetch exceeded its timeout")
	errBodyTooSlow  = errors.New("the body is too slow")
)

// pausableTimer calls a function once it has run for a given time; paused time
// does not count. A fetch runs its timers while it waits for the source, and
// pauses them while it waits for a host slot or for the writer, so that a slow
// disk never makes a source time out.
//
// Its methods are for one goroutine; expired runs on another.
type pausableTimer struct {
	remaining time.Duration
	expired   func()
	timer     *time.Timer
	resumedAt time.Time
}

func (t *pausableTimer) resume() {
	t.resumedAt = time.Now()
	if t.timer == nil {
		t.timer = time.AfterFunc(t.remaining, t.expired)
	} else {
		t.timer.Reset(t.remaining)
	}
}

func (t *pausableTimer) pause() {
	t.timer.Stop()
	t.remaining -= time.Since(t.resumedAt)
}

// timedReader reads a body under two time limits: the fetch timer, and a window
// timer that starts again after every windowBytes. A body whose next
// windowBytes take longer than windowLength is therefore too slow.
type timedReader struct {
	body         io.Reader
	fetchTimer   *pausableTimer
	windowTimer  *pausableTimer
	windowLength time.Duration
	windowBytes  int64
	received     int64 // bytes, in the current window
}

func (r *timedReader) Read(p []byte) (int, error) {
	r.fetchTimer.resume()
	r.windowTimer.resume()
	n, err := r.body.Read(p)
	r.windowTimer.pause()
	r.fetchTimer.pause()
	if r.received += int64(n); r.received >= r.windowBytes {
		r.received, r.windowTimer.remaining = 0, r.windowLength
	}
	return n, err
}
