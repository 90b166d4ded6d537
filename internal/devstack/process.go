package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const (
	// defaultReadyTimeout bounds a start. PostgreSQL recovering from a crash and Temporal on a loaded machine take seconds, so
	// this is reached only by something that will never be ready.
	defaultReadyTimeout = time.Minute

	// defaultStopTimeout is how long a process may take to act on one stop signal. A worker finishing the photo in its hands
	// is the slowest; whoever knows better sets Process.StopTimeout.
	defaultStopTimeout = 10 * time.Second

	// readyInterval separates two questions whether a process is ready: short against a start, which takes about a second,
	// long against what one question costs.
	readyInterval = 25 * time.Millisecond
)

// Process describes a child process: how to start it, how to know that it serves, and how to end it. Only Name, Path and LogFile
// are required.
//
// A child runs in a process group of its own, so that Ctrl-C at the terminal reaches only its parent, which then stops its
// children in order. Its standard input is empty and its output goes straight into LogFile, not through us: nothing of it is
// lost, and no pipe breaks, when we are killed.
type Process struct {
	// Name says what it is in messages, such as "postgres".
	Name string

	// Path is the executable, Args what follows it on the command line.
	Path string
	Args []string

	// Env is the whole environment. Nil means ours.
	Env []string

	// Dir is the working directory. Defaults to ours.
	Dir string

	// Credential is the OS user that runs it. Nil means ours; anything else needs root.
	Credential *syscall.Credential

	// LogFile takes standard output and standard error, appended. One of over 10 MiB is renamed to LogFile.1 at the start.
	LogFile string

	// PIDFile is where the running child is recorded. Start first ends the process that it finds there, if that still runs:
	// an orphan, whose parent was killed. Without a PIDFile none is looked for.
	PIDFile string

	// Prepare runs before every start and restart, after an orphan has gone. Optional.
	Prepare func(ctx context.Context) error

	// Ready returns nil once the process serves. It is asked again and again until then, and its context ends when the process
	// exits. Nil means ready as soon as started.
	Ready func(ctx context.Context) error

	// ReadyTimeout is how long the process may take until Ready returns nil. Defaults to one minute.
	ReadyTimeout time.Duration

	// StopSignals end the process: one after the other, StopTimeout apart, until it exits. SIGKILL to the whole process group
	// follows when none of them helps. Defaults to SIGTERM.
	StopSignals []syscall.Signal

	// StopTimeout is how long the process may take to act on each of StopSignals. Defaults to 10 seconds.
	StopTimeout time.Duration

	// DeathSignal is what the kernel sends the child when we die without stopping it, be it by SIGKILL. Linux only; elsewhere
	// the child is left to the next start, see PIDFile. Defaults to the first of StopSignals.
	DeathSignal syscall.Signal
}

func (p Process) withDefaults() Process {
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
		p.DeathSignal = p.StopSignals[0]
	}
	return p
}

// Child is a running process.
type Child struct {
	process Process
	cmd     *exec.Cmd

	// logStart is where this child's output begins in LogFile.
	logStart int64

	// done is closed once the process has exited and been waited for; err says how, and is not written afterwards.
	done chan struct{}
	err  error
}

// Start ends an orphan of an earlier start, starts the process and returns when it is ready. It does not outlive a failure: when
// the process exits early, is not ready in time or ctx ends, it has been stopped before Start returns the error, which quotes the
// end of the log.
//
// The context bounds the start only. Afterwards the process runs until Stop.
func (p Process) Start(ctx context.Context) (*Child, error) {
	p = p.withDefaults()
	if p.PIDFile != "" {
		if err := stopOrphan(ctx, p); err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name, err)
		}
	}
	if p.Prepare != nil {
		if err := p.Prepare(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name, err)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", p.Name, err)
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

// spawn starts the process without waiting for it to be ready.
func (p Process) spawn() (*Child, error) {
	log, logStart, err := openLog(p.LogFile)
	if err != nil {
		return nil, err
	}
	// The child has its own copy.
	defer log.Close()

	cmd := exec.Command(p.Path, p.Args...)
	cmd.Env = p.Env
	cmd.Dir = p.Dir
	cmd.Stdout = log
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: p.Credential}
	setDeathSignal(cmd.SysProcAttr, p.DeathSignal)
	if err := startOnLastingThread(cmd); err != nil {
		return nil, err
	}

	child := &Child{process: p, cmd: cmd, logStart: logStart, done: make(chan struct{})}
	if p.PIDFile != "" {
		if err := writePIDFile(p.PIDFile, identify(cmd.Process.Pid)); err != nil {
			// A child that the next start could not find must not run.
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			return nil, err
		}
	}
	go child.wait()
	return child, nil
}

// wait notes the exit of the process.
func (c *Child) wait() {
	c.err = waitAndEndGroup(c.cmd)
	if c.process.PIDFile != "" {
		_ = os.Remove(c.process.PIDFile)
	}
	close(c.done)
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
			return fmt.Errorf("%s stopped before it was ready (%s)%s", p.Name, c.exitReason(), c.quoteLog())
		default:
		}
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%s: waiting until it is ready: %w", p.Name, ctx.Err())
		case readyCtx.Err() != nil:
			return fmt.Errorf("%s is not ready after %s: %w%s", p.Name, p.ReadyTimeout, err, c.quoteLog())
		}

		select {
		case <-c.done:
		case <-readyCtx.Done():
		case <-time.After(readyInterval):
		}
	}
}

// PID is the process's number. It may be another process's once Done is closed.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Done is closed when the process has exited.
func (c *Child) Done() <-chan struct{} { return c.done }

// Err says how the process exited: nil for exit status 0, else an [*exec.ExitError]. Valid once Done is closed.
func (c *Child) Err() error { return c.err }

// Stop ends the process as its StopSignals say and returns once it has exited; when it already has, at once. The error says that
// nothing but SIGKILL helped.
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

func (c *Child) exitReason() string {
	if c.err == nil {
		return "exit status 0"
	}
	return c.err.Error()
}

// quoteLog is what the child has written last, as the end of an error message.
func (c *Child) quoteLog() string { return quoteLog(c.process.LogFile, c.logStart) }

// stopOrphan ends the process of an earlier start that PIDFile names, if that still runs.
func stopOrphan(ctx context.Context, p Process) error {
	orphan, err := readPIDFile(p.PIDFile)
	if err != nil {
		return err
	}
	if err := orphan.terminate(ctx, p.StopSignals, p.StopTimeout); err != nil {
		return fmt.Errorf("ending process %d, left over from an earlier start: %w", orphan.pid, err)
	}
	if err := os.Remove(p.PIDFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
