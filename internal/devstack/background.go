package devstack

import (
	"context"
	"fmt"
	"net/http"
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
// log; if ctx ends before, argv is stopped. Start waits for a stack that is
// stopping. The error is a *[RunningError] if a stack runs already.
func Start(ctx context.Context, dir Dir, argv []string) (State, error) {
	if err := dir.Create(); err != nil {
		return State{}, err
	}
	before, err := dir.Status(ctx)
	if err == nil && before.Stopping {
		before, err = waitForStatus(ctx, dir, func(status Status) bool { return status.PID != before.PID })
	}
	if err != nil {
		return State{}, err
	}
	if before.PID != 0 {
		return State{}, &RunningError{PID: before.PID}
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
			if status, statusErr := dir.Status(ctx); statusErr == nil && status.PID != 0 { // it was started at the same time
				return State{}, &RunningError{PID: status.PID}
			}
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

// WaitReady returns the state of a stack that another process is starting, when
// it is ready. The error is [ErrNotRunning] if there is none any more.
func WaitReady(ctx context.Context, dir Dir) (State, error) {
	status, err := waitForStatus(ctx, dir, func(status Status) bool {
		return status.PID == 0 || status.Stopping || status.State != nil
	})
	if err == nil && status.State == nil {
		err = ErrNotRunning
	}
	if err != nil {
		return State{}, err
	}
	return *status.State, nil
}

// Stop ends the supervisor and returns when all its processes have exited. The
// error is [ErrNotRunning] if none runs.
func Stop(ctx context.Context, dir Dir) error {
	running, err := dir.Status(ctx)
	if err == nil && running.PID == 0 {
		err = ErrNotRunning
	}
	if err == nil {
		_, err = dir.requestControl(ctx, http.MethodPost, "/stop")
	}
	if err != nil {
		return err
	}
	_, err = waitForStatus(ctx, dir, func(status Status) bool { return status.PID != running.PID })
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("process %d is still stopping: %w; see %s", running.PID, ctx.Err(), dir.Log("dev"))
	}
	return err
}

// waitForStatus returns the first status for which the condition holds.
func waitForStatus(ctx context.Context, dir Dir, condition func(Status) bool) (Status, error) {
	for {
		status, err := dir.Status(ctx)
		if err != nil || condition(status) {
			return status, err
		}
		select {
		case <-ctx.Done():
			return status, ctx.Err()
		case <-time.After(pollInterval):
		}
	}
}
