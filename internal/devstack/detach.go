package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Detach runs the command argv with the environment env in the background, in a session of its own, and returns when it has
// written its state: it must take the lock of the data directory and call WriteState when ready. Its output goes to dir.Log("dev")
// and, until it is ready, to progress as well; an installation has something to say meanwhile.
//
// The error is a *[RunningError] when a stack runs already. When the command exits before it is ready, the error quotes the end of
// its log, unless progress has had that. When ctx ends first, the command is stopped.
func Detach(ctx context.Context, dir Dir, argv, env []string, progress io.Writer) (State, error) {
	if err := dir.Create(); err != nil {
		return State{}, err
	}
	holder, err := dir.holder()
	if err != nil {
		return State{}, err
	}
	if holder.pid != 0 {
		return State{}, &RunningError{PID: holder.pid}
	}
	log, logStart, err := openLog(dir.Log("dev"))
	if err != nil {
		return State{}, err
	}
	defer log.Close()

	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = env
	cmd.Stdout = log
	cmd.Stderr = log
	// Neither Ctrl-C at this terminal nor its end reaches the new session.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return State{}, err
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()

	written := logStart
	for {
		// The state first: what the command wrote before it is copied then.
		state, err := dir.ReadState()
		if progress != nil {
			copyLog(progress, dir.Log("dev"), &written)
		}
		switch {
		case err == nil && state.PID == cmd.Process.Pid:
			return state, nil
		case err != nil && !errors.Is(err, ErrNotRunning):
			return State{}, errors.Join(err, cmd.Process.Signal(syscall.SIGTERM))
		}

		select {
		case err := <-exited:
			reason := "exit status 0"
			if err != nil {
				reason = err.Error()
			}
			if progress != nil {
				copyLog(progress, dir.Log("dev"), &written)
				return State{}, fmt.Errorf("it stopped before it was ready (%s)", reason)
			}
			return State{}, fmt.Errorf("it stopped before it was ready (%s)%s", reason, quoteLog(dir.Log("dev"), logStart))
		case <-ctx.Done():
			_ = cmd.Process.Signal(syscall.SIGTERM)
			<-exited
			return State{}, fmt.Errorf("waiting until it is ready: %w", ctx.Err())
		case <-time.After(pollInterval):
		}
	}
}

// copyLog copies what the log has gained since *offset.
func copyLog(w io.Writer, path string, offset *int64) {
	file, err := os.Open(path)
	if err != nil {
		return
	}
	defer file.Close()
	n, _ := io.Copy(w, io.NewSectionReader(file, *offset, 1<<62))
	*offset += n
}

// WaitReady waits for the stack that is being started on the data directory by somebody else and returns its state. The error is
// [ErrNotRunning] when there is none, or no more.
func WaitReady(ctx context.Context, dir Dir) (State, error) {
	for {
		state, err := dir.ReadState()
		if !errors.Is(err, ErrNotRunning) {
			return state, err
		}
		if holder, err := dir.holder(); err != nil || holder.pid == 0 {
			return State{}, errors.Join(err, ErrNotRunning)
		}
		select {
		case <-ctx.Done():
			return State{}, ctx.Err()
		case <-time.After(pollInterval):
		}
	}
}

// Stop asks the supervisor of the data directory to stop and returns once it has exited, with all its processes. The error is
// [ErrNotRunning] when there is none. A supervisor that does not stop before ctx ends is left alone: it is still stopping its
// processes, each of which it kills in the end.
func Stop(ctx context.Context, dir Dir) error {
	holder, err := dir.holder()
	if err != nil {
		return err
	}
	if holder.pid == 0 {
		return ErrNotRunning
	}
	if err := holder.signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop process %d: %w", holder.pid, err)
	}
	if err := holder.awaitExit(ctx); err != nil {
		return fmt.Errorf("process %d is still stopping: %w; see %s", holder.pid, err, dir.Log("dev"))
	}
	return nil
}
