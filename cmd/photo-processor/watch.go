package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/photo-processor/photo-processor/internal/exitcode"
)

// watchInterval is the time between two requests of --watch.
const watchInterval = time.Second

// watcher repeats a request to the API. It shows a progress bar, and goes on
// through outages of the API.
type watcher struct {
	status   io.Writer     // for the progress bar and for outages
	interval time.Duration // between two requests
	progress *progress
}

// newWatcher returns a watcher whose progress bar is visible if status is a
// terminal.
func newWatcher(status io.Writer, interval time.Duration) *watcher {
	return &watcher{status: status, interval: interval, progress: newProgress(status, isTerminal(status))}
}

// run calls poll until it returns true, or an error that is not transient.
func (w *watcher) run(ctx context.Context, poll func() (done bool, err error)) error {
	ticker := time.NewTicker(w.interval)
	defer ticker.Stop()
	for away := false; ; {
		done, err := poll()
		switch {
		case ctx.Err() != nil:
		case err != nil && !isTransient(err):
			w.progress.clear()
			return err
		case err != nil && !away:
			away = true
			w.progress.clear()
			fmt.Fprintf(w.status, "%s; waiting until it can be used again\n", err)
		case err == nil && away:
			away = false
			w.progress.clear()
			fmt.Fprintln(w.status, "the API can be used again")
		}
		if err == nil && done {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			w.progress.clear()
			return fmt.Errorf("%w; the photos are still processed", exitcode.ErrInterrupted)
		}
	}
}

// progress is a progress bar of photos with their count, rate and time left.
type progress struct{ bar *progressbar.ProgressBar }

func newProgress(w io.Writer, visible bool) *progress {
	return &progress{progressbar.NewOptions(0,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetVisibility(visible),
		progressbar.OptionSetDescription("photos"),
		progressbar.OptionShowCount(),
		progressbar.OptionShowIts(),
		progressbar.OptionSetItsString("photos"),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionOnCompletion(func() { fmt.Fprintln(w) }),
	)}
}

// update shows that so many of all photos are finished. A bar ends for good when
// it reaches its total. So it stays as it is while all photos are finished but
// the total may still grow.
func (p *progress) update(finished, total int, done bool) {
	if total == 0 || finished >= total && !done {
		return
	}
	p.bar.ChangeMax(total)
	_ = p.bar.Set(finished) // an error of the terminal stops no watching
}

// clear makes room for a line of text.
func (p *progress) clear() { _ = p.bar.Clear() }

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
