package devstack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	defaultReadyTimeout = time.Minute
	defaultStopTimeout  = 10 * time.Second

	// lingerTimeout is how long the output of a process is read after its exit,
	// if processes outside its group have it open.
	lingerTimeout = time.Second
)

// Process describes a child process: how to start it, when it is ready, and how
// to stop it. Name, Path and LogFile are required.
//
// A child has its own process group, so that Ctrl-C reaches its parent alone,
// which then stops its children in order. When the parent is killed, the kernel
// kills the child.
type Process struct {
	Name string // in messages
	Path string
	Args []string
	Env  []string // nil means the parent's
	Dir  string   // "" means the parent's

	// Credential is the OS user that runs the process. Nil means the parent's.
	Credential *syscall.Credential

	// LogFile takes standard output and standard error, appended. A log of 10
	// MiB is compressed; the last 20 of these are kept.
	LogFile string
	log     *processLog // of LogFile, shared with restarts; nil before the first start

	// PIDFile has the process's number while it runs. Optional.
	PIDFile string

	// Prepare runs before every start and restart. Optional.
	Prepare func(context.Context) error

	// Ready returns nil once the process serves. It is called every 25 ms, and
	// its context ends when the process exits. Nil means ready as soon as
	// started.
	Ready func(context.Context) error

	// ReadyTimeout is how long the process may take to be ready. Defaults to a
	// minute.
	ReadyTimeout time.Duration

	// StopSignals are sent one after the other, StopTimeout apart, until the
	// process exits. SIGKILL follows. They default to SIGTERM and 10 seconds.
	StopSignals []syscall.Signal
	StopTimeout time.Duration

	// DeathSignal is what the kernel sends the child when its parent is killed.
	// Defaults to SIGKILL, which frees its ports at once.
	DeathSignal syscall.Signal
}

// Child is a running process.
type Child struct {
	process Process
	cmd     *exec.Cmd
	done    chan struct{} // closed when the process has exited
	err     error         // valid once done is closed
}

// Start starts the process and returns when it is ready. If the process exits
// before, is not ready in time, or ctx ends, Start stops it and returns an
// error that quotes the end of its log. Later, ctx has no effect.
func (p Process) Start(ctx context.Context) (*Child, error) {
	if p.ReadyTimeout == 0 {
		p.ReadyTimeout = defaultReadyTimeout
	}
	if len(p.StopSignals) == 0 {
		p.StopSignals = []syscall.Signal{syscall.SIGTERM}
	}
	if p.StopTimeout == 0 {
		p.StopTimeout = defaultStopTimeout
	}
	if p.DeathSignal == 0 {
		p.DeathSignal = syscall.SIGKILL
	}
	if p.log == nil {
		p.log = newProcessLog(p.LogFile)
	}
	if p.Prepare != nil {
		if err := p.Prepare(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name, err)
		}
	}
	child, err := p.spawn()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Name, err)
	}
	if err := child.waitReady(ctx); err != nil {
		_ = child.Stop()
		return nil, err
	}
	return child, nil
}

func (p Process) spawn() (*Child, error) {
	if err := os.MkdirAll(filepath.Dir(p.LogFile), 0o700); err != nil {
		return nil, err
	}
	cmd := exec.Command(p.Path, p.Args...)
	cmd.Env, cmd.Dir = p.Env, p.Dir
	// A pipe. It breaks if this process is killed, but then the child is, too.
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = p.log, p.log, lingerTimeout
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: p.Credential, Pdeathsig: p.DeathSignal}
	p.log.begin()
	if err := StartChild(cmd); err != nil {
		return nil, err
	}
	child := &Child{process: p, cmd: cmd, done: make(chan struct{})}
	var err error
	if p.PIDFile != "" {
		err = errors.Join(os.MkdirAll(filepath.Dir(p.PIDFile), 0o700), os.WriteFile(p.PIDFile, fmt.Appendln(nil, child.PID()), 0o600))
	}
	go func() {
		// Exited, but not reaped, so that its number still names its group.
		for errors.Is(unix.Waitid(unix.P_PID, child.PID(), nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
		}
		// What is left of its group may hold the pipe open.
		_ = syscall.Kill(-child.PID(), syscall.SIGKILL)
		if child.err = cmd.Wait(); errors.Is(child.err, exec.ErrWaitDelay) {
			child.err = nil
		}
		p.log.close()
		if p.PIDFile != "" {
			_ = os.Remove(p.PIDFile)
		}
		close(child.done)
	}()
	if err != nil {
		return nil, errors.Join(err, child.Stop())
	}
	return child, nil
}

func (c *Child) waitReady(ctx context.Context) error {
	p := c.process
	if p.Ready == nil {
		return nil
	}
	readyCtx, cancel := context.WithTimeout(ctx, p.ReadyTimeout)
	defer cancel()
	go func() {
		select {
		case <-c.done:
			cancel()
		case <-readyCtx.Done():
		}
	}()
	for {
		err := p.Ready(readyCtx)
		select {
		case <-c.done:
			return fmt.Errorf("%s stopped before it was ready (%s)%s", p.Name, exitReason(c.err), p.log.quote())
		default:
		}
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%s: waiting until it is ready: %w", p.Name, ctx.Err())
		case readyCtx.Err() != nil:
			return fmt.Errorf("%s is not ready after %s: %w%s", p.Name, p.ReadyTimeout, err, p.log.quote())
		}
		select {
		case <-c.done:
		case <-readyCtx.Done():
		case <-time.After(pollInterval):
		}
	}
}

// PID is the process's number.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Done is closed when the process has exited.
func (c *Child) Done() <-chan struct{} { return c.done }

// Stop ends the process by its StopSignals and returns when it has exited. The
// error says that only SIGKILL ended it.
func (c *Child) Stop() error {
	for _, signal := range c.process.StopSignals {
		if err := c.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop %s: %w", c.process.Name, err)
		}
		select {
		case <-c.done:
			return nil
		case <-time.After(c.process.StopTimeout):
		}
	}
	_ = c.cmd.Process.Kill()
	<-c.done
	return fmt.Errorf("%s did not stop within %s and was killed", c.process.Name,
		time.Duration(len(c.process.StopSignals))*c.process.StopTimeout)
}

func exitReason(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// GroupCommand returns a command whose process has a group of its own: Ctrl-C
// does not reach it. When ctx ends, the program and all that it has started are
// killed.
func GroupCommand(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}

// run runs a program that ends by itself. The error quotes what it printed.
// When ctx ends, the program and all that it has started are killed.
func run(ctx context.Context, env []string, dir string, credential *syscall.Credential, argv ...string) error {
	cmd := GroupCommand(ctx, argv[0], argv[1:]...)
	cmd.Env, cmd.Dir = env, dir
	cmd.SysProcAttr.Credential = credential
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := RunChild(cmd); err != nil {
		return fmt.Errorf("%s: %w\n\t%s", strings.Join(argv, " "), err, bytes.ReplaceAll(bytes.TrimSpace(output.Bytes()), []byte("\n"), []byte("\n\t")))
	}
	return nil
}
