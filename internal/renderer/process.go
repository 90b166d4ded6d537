package renderer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/photo-processor/photo-processor/internal/renderer/protocol"
)

const (
	// startTimeout limits the time from a process's start to its hello, which
	// takes 0.1 s on an idle machine.
	startTimeout = 30 * time.Second

	// exitGracePeriod is how long a process with a broken pipe may take to exit
	// by itself, so that its exit status shows the cause.
	exitGracePeriod = time.Second

	// memoryPoll is the interval at which the worker measures the memory of a
	// process that renders. A processor fills about a gigabyte in this time.
	memoryPoll = 250 * time.Millisecond

	// memoryAllowance is what a process may use beyond MaxMemory before the worker
	// kills it, in bytes: stacks, relocated libraries and page tables, which the
	// kernel's limit does not count.
	memoryAllowance = 64 << 20

	// killTimeout limits the wait for the kernel to reap a killed process,
	// which takes long only on an overloaded machine.
	killTimeout = 5 * time.Second
)

// environment is the whole environment of a render process.
var environment = []string{
	// The C library's allocator gives threads heaps of their own. Two heaps are
	// enough for one picture at a time, and save address space and memory.
	"MALLOC_ARENA_MAX=2",
	// Buffers up to 32 MiB, the highest threshold that the allocator accepts,
	// come from the heaps and are kept for the next picture: the kernel must
	// clear every page that it hands out. Larger buffers are unmapped when
	// freed.
	"MALLOC_MMAP_THRESHOLD_=33554432",
	// Heaps grow in steps of 16 MiB, and free memory over 64 MiB at their end
	// goes back to the kernel. By default the allocator raises that bound to
	// twice the largest buffer.
	"MALLOC_TOP_PAD_=16777216",
	"MALLOC_TRIM_THRESHOLD_=67108864",
}

// Environment returns the environment of the render processes, as "name=value",
// for programs that run the same code under the same allocator settings.
func Environment() []string { return slices.Clone(environment) }

// process is a running photo-processor-render.
type process struct {
	cmd    *exec.Cmd
	stdin  *os.File
	stdout *bufio.Reader
	log    *lineLogger

	pipes    []*os.File    // this side's ends of stdin, stdout and stderr
	exited   chan struct{} // closed once the process is reaped and its stderr logged
	killOnce sync.Once
	confined bool  // all layers of the sandbox are in force
	baseline int64 // bytes of memory when the process became ready
}

// start starts a process and waits for its hello. The error includes the last
// line of the process's stderr, if any, and its exit status.
func (r *Renderer) start() (*process, error) {
	p, namespaces, err := r.spawn()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.closing, startTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, p.kill)
	defer stop()

	err = protocol.WriteSetup(p.stdin, protocol.Setup{Options: r.config.Options, MaxMemory: r.config.MaxMemory})
	var hello protocol.Hello
	if err == nil {
		hello, err = protocol.ReadHello(p.stdout)
	}
	if ctx.Err() != nil {
		p.killAndWait()
		if r.closing.Err() != nil {
			return nil, ErrClosed
		}
		return nil, fmt.Errorf("no hello within %s", startTimeout)
	}
	if err != nil {
		p.exitOrKill()
		if line := p.log.lastLine(); line != "" {
			return nil, fmt.Errorf("%s (%s)", line, p.exitState())
		}
		return nil, fmt.Errorf("%w (%s)", err, p.exitState())
	}
	hello.Sandbox.Namespaces = namespaces
	missing := hello.Sandbox.Missing()
	if len(missing) > 0 && r.config.RequireSandbox {
		p.killAndWait()
		return nil, &missingError{missing}
	}
	p.confined = len(missing) == 0
	r.sandbox.Store(&hello.Sandbox)
	p.baseline = p.memory()
	return p, nil
}

// spawn starts the program with three pipes as its only descriptors. It returns
// the namespaces that the process has to itself, or why it has none.
func (r *Renderer) spawn() (_ *process, namespaces string, err error) {
	var parent, child []*os.File
	defer func() {
		closeAll(child)
		if err != nil {
			closeAll(parent)
		}
	}()
	for i := range 3 {
		reader, writer, err := os.Pipe()
		if err != nil {
			return nil, "", err
		}
		if i == 0 { // stdin
			enlarge(writer)
			parent, child = append(parent, writer), append(child, reader)
		} else {
			parent, child = append(parent, reader), append(child, writer)
		}
	}
	command := func() *exec.Cmd {
		cmd := exec.Command(r.config.Path)
		cmd.Env, cmd.Dir = environment, "/"
		cmd.Stdin, cmd.Stdout, cmd.Stderr = child[0], child[1], child[2]
		return cmd
	}
	cmd, namespaces, err := r.startCommand(command)
	if err != nil {
		return nil, "", err
	}
	p := &process{
		cmd: cmd, stdin: parent[0], stdout: bufio.NewReader(parent[1]), pipes: parent,
		exited: make(chan struct{}),
		log:    newLineLogger(r.config.Log.With("process", cmd.Process.Pid)),
	}
	go p.reap()
	return p, namespaces, nil
}

// reap waits until the process has exited and its stderr is logged, and then
// closes p.exited.
func (p *process) reap() {
	stderr, logged := p.pipes[2], make(chan struct{})
	go func() {
		defer close(logged)
		if p.log.readFrom(stderr) {
			p.kill()
		}
	}()
	_ = p.cmd.Wait()
	// The last lines are still in the pipe. Only a child of the process, which
	// no sandboxed process can start, could hold the pipe open.
	_ = stderr.SetReadDeadline(time.Now().Add(exitGracePeriod))
	<-logged
	close(p.exited)
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// kill sends SIGKILL and unblocks reads and writes of the pipes.
func (p *process) kill() {
	p.killOnce.Do(func() {
		_ = p.cmd.Process.Kill()
		// Another process may have inherited the other ends.
		_ = p.pipes[0].Close()
		_ = p.pipes[1].Close()
	})
}

// killAndWait kills the process, unless it has exited, and waits up to
// killTimeout until it is reaped.
func (p *process) killAndWait() {
	p.kill()
	select {
	case <-p.exited:
		_ = p.pipes[2].Close()
	case <-time.After(killTimeout):
		p.log.log.Error("a killed render process has not exited; it is left behind", "waited", killTimeout)
	}
}

// exitOrKill lets the process exit by itself within exitGracePeriod, which
// keeps its exit status, and kills it otherwise. It returns true if the process
// exited and had not read all that was written to its stdin.
func (p *process) exitOrKill() (unread bool) {
	timer := time.NewTimer(exitGracePeriod)
	defer timer.Stop()
	select {
	case <-p.exited:
		unread = hasUnread(p.stdin)
	case <-timer.C:
	}
	p.killAndWait()
	return unread
}

// exitState describes how the process ended, such as "signal: killed".
func (p *process) exitState() string {
	select {
	case <-p.exited:
		return p.cmd.ProcessState.String()
	default:
		return "still running"
	}
}

// outOfMemory reports whether the process exited because the kernel refused it
// memory. C code exits with a code of its own then; the Go runtime, which does
// not use the C library's allocator, writes a message to stderr.
func (p *process) outOfMemory() bool {
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode() == protocol.ExitOutOfMemory || p.log.outOfMemory()
	default:
		return false
	}
}

// growth returns how many more bytes of memory the process holds than when it
// became ready.
func (p *process) growth() int64 { return p.memory() - p.baseline }

// watchMemory calls exceeded as soon as the process holds more than limit bytes,
// and returns then or when the context ends.
func (p *process) watchMemory(ctx context.Context, limit int64, exceeded func()) {
	ticker := time.NewTicker(memoryPoll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if p.memory() > limit {
				exceeded()
				return
			}
		}
	}
}

// Find returns the absolute path of the program photo-processor-render: path,
// or if that is empty the program in the directory of the running executable.
func Find(path string) (string, error) {
	const name = "photo-processor-render"
	if path != "" {
		if _, err := exec.LookPath(path); err != nil {
			return "", fmt.Errorf("RENDERER_PATH: %w", err)
		}
		return filepath.Abs(path)
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if self, err = filepath.EvalSymlinks(self); err != nil {
		return "", err
	}
	path = filepath.Join(filepath.Dir(self), name)
	if _, err := exec.LookPath(path); err != nil {
		return "", fmt.Errorf("%s must lie next to %s, or RENDERER_PATH must name it: %w", name, filepath.Base(self), errors.Unwrap(err))
	}
	return path, nil
}
