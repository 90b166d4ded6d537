package devstack

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// pollInterval separates two looks at what another process does.
const pollInterval = 25 * time.Millisecond

// Start runs argv, which must call Dir.Lock and Control.SetReady, in a session
// of its own, so that Ctrl-C and the end of the terminal do not reach it. Start
// returns when the stack is ready. If argv exits before, the error quotes its
// log; if ctx ends before, argv is stopped. The error is a *[RunningError] if a
// stack runs already.
func Start(ctx context.Context, dir Dir, argv []string) (State, error) {
	if err := dir.Create(); err != nil {
		return State{}, err
	}
	if status, err := dir.Status(ctx); err != nil {
		return State{}, err
	} else if status.PID != 0 {
		return State{}, &RunningError{PID: status.PID}
	}
	log, err := createSupervisorLog(dir.Log("dev"))
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
		if status, err := dir.Status(ctx); err == nil && status.PID == cmd.Process.Pid && status.State != nil {
			return *status.State, nil
		}
		select {
		case err := <-exited:
			text, readErr := os.ReadFile(log.Name())
			if readErr != nil {
				return State{}, readErr
			}
			return State{}, fmt.Errorf("it stopped before it was ready (%s)%s", exitReason(err), quoteLog(log.Name(), text))
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
	return waitForStatus(ctx, dir, func(status Status) (bool, error) {
		if status.PID == 0 {
			return false, ErrNotRunning
		}
		return status.State != nil, nil
	})
}

// Stop ends the supervisor and returns when all its processes have exited. The
// error is [ErrNotRunning] if none runs.
func Stop(ctx context.Context, dir Dir) error {
	running, err := dir.Status(ctx)
	if err != nil {
		return err
	}
	if running.PID == 0 {
		return ErrNotRunning
	}
	if err := syscall.Kill(running.PID, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop process %d: %w", running.PID, err)
	}
	err = waitForStatus(ctx, dir, func(status Status) (bool, error) { return status.PID != running.PID, nil })
	if ctx.Err() != nil {
		return fmt.Errorf("process %d is still stopping: %w; see %s", running.PID, ctx.Err(), dir.Log("dev"))
	}
	return err
}

// waitForStatus returns when done does, or with its error, or with ctx's.
func waitForStatus(ctx context.Context, dir Dir, done func(Status) (bool, error)) error {
	for {
		status, err := dir.Status(ctx)
		if err != nil {
			return err
		}
		if ok, err := done(status); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollInterval):
		}
	}
}
