package source

import (
	"io"
	"time"
)

// allowance is a span of time that passes only while it runs. A fetch uses two,
// which run while it waits for the source and rest while it waits for its turn
// or for the writer, so that a slow bucket is never held against the source.
//
// It is for one goroutine; spent is called on another.
type allowance struct {
	left  time.Duration
	spent func() // called when nothing is left
	timer *time.Timer
	since time.Time
}

func (a *allowance) run() {
	a.since = time.Now()
	if a.timer == nil {
		a.timer = time.AfterFunc(a.left, a.spent)
	} else {
		a.timer.Reset(a.left)
	}
}

func (a *allowance) rest() {
	a.timer.Stop()
	a.left -= time.Since(a.since)
}

// pacedReader reads a body from the network under two allowances. Each quota of
// bytes has one window to arrive in; whoever takes longer is slower than quota
// per window.
type pacedReader struct {
	body   io.Reader
	total  *allowance
	window *allowance
	span   time.Duration // a whole window
	quota  int64         // bytes
	got    int64         // bytes of the current quota
}

func (r *pacedReader) Read(p []byte) (int, error) {
	r.total.run()
	r.window.run()
	n, err := r.body.Read(p)
	r.window.rest()
	r.total.rest()
	if r.got += int64(n); r.got >= r.quota {
		r.got, r.window.left = 0, r.span
	}
	return n, err
}
