package renderer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/photo-processor/photo-processor/internal/renderer/protocol"
)

// startTime is what a process has from its start to its hello. It takes 0.1 s on
// a machine that has nothing else to do.
const startTime = 30 * time.Second

// killedTime is how long we wait for the kernel to end a process that was
// killed. It cannot refuse, but it can be busy.
const killedTime = 5 * time.Second

// environment is all that a process knows of the world.
var environment = []string{
	// The C library's allocator keeps a heap for each of some threads; two are
	// enough for one picture at a time, and save address space and memory.
	"MALLOC_ARENA_MAX=2",
	// Buffers are taken from these heaps and kept for the next picture: memory
	// that the kernel gives must be cleared, page by page. This is the largest
	// threshold that there is; buffers beyond it go back when they are freed.
	"MALLOC_MMAP_THRESHOLD_=33554432",
	// Heaps grow in steps of this size, and what is free at their end goes back
	// from the next on. By itself the allocator would raise that bound to twice
	// the largest buffer, and keep as much.
	"MALLOC_TOP_PAD_=16777216",
	"MALLOC_TRIM_THRESHOLD_=67108864",
}

// process is a photo-processor-render that runs.
type process struct {
	cmd    *exec.Cmd
	stdin  *os.File
	stdout *bufio.Reader
	log    *lineLogger

	pipes    []*os.File // our ends of all of them
	exited   chan struct{}
	killOnce sync.Once
	baseline int64 // bytes resident after the start
}

// start starts a process and waits for its hello.
func (r *Renderer) start() (*process, error) {
	p, namespaces, err := r.spawn()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.closing, startTime)
	defer cancel()
	stop := context.AfterFunc(ctx, p.kill)
	defer stop()

	err = protocol.WriteSetup(p.stdin, protocol.Setup{Options: r.config.Options, MaxMemory: r.config.MaxMemory})
	var hello protocol.Hello
	if err == nil {
		hello, err = protocol.ReadHello(p.stdout)
	}
	if ctx.Err() != nil {
		p.end()
		if r.closing.Err() != nil {
			return nil, ErrClosed
		}
		return nil, fmt.Errorf("it is not ready after %s", startTime)
	}
	if err != nil {
		p.endSoon()
		if said := p.log.lastLine(); said != "" {
			return nil, fmt.Errorf("%s (%s)", said, p.ending())
		}
		return nil, fmt.Errorf("%w (%s)", err, p.ending())
	}
	hello.Sandbox.Namespaces = namespaces
	r.sandbox.Store(&hello.Sandbox)
	p.baseline = p.resident()
	return p, nil
}

// spawn starts the program with three pipes and nothing else.
func (r *Renderer) spawn() (_ *process, namespaces string, err error) {
	var ours, theirs []*os.File
	defer func() {
		closeAll(theirs)
		if err != nil {
			closeAll(ours)
		}
	}()
	for i := range 3 {
		reader, writer, err := os.Pipe()
		if err != nil {
			return nil, "", err
		}
		if i == 0 {
			reader, writer = writer, reader
			widen(reader)
		}
		ours, theirs = append(ours, reader), append(theirs, writer)
	}
	command := func() *exec.Cmd {
		cmd := exec.Command(r.config.Path)
		cmd.Env, cmd.Dir = environment, "/"
		cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs[0], theirs[1], theirs[2]
		return cmd
	}
	cmd, namespaces, err := r.startCommand(command)
	if err != nil {
		return nil, "", err
	}
	p := &process{
		cmd: cmd, stdin: ours[0], stdout: bufio.NewReader(ours[1]), pipes: ours,
		exited: make(chan struct{}),
		log:    newLineLogger(r.config.Log.With("process", cmd.Process.Pid)),
	}
	go func() {
		said := make(chan struct{})
		go func() {
			defer close(said)
			if p.log.readFrom(ours[2]) {
				p.kill()
			}
		}()
		_ = cmd.Wait()
		// What it said last is in the pipe. There is nobody left who could write
		// more, unless it started something, which only where there is no sandbox
		// it can.
		_ = ours[2].SetReadDeadline(time.Now().Add(dyingTime))
		<-said
		close(p.exited)
	}()
	return p, namespaces, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// kill ends the process at once, and every wait for it here.
func (p *process) kill() {
	p.killOnce.Do(func() {
		_ = p.cmd.Process.Kill()
		// Also where somebody else holds the other ends.
		_ = p.pipes[0].Close()
		_ = p.pipes[1].Close()
	})
}

// end kills the process, if it is there, and waits until it is not.
func (p *process) end() {
	p.kill()
	select {
	case <-p.exited:
		_ = p.pipes[2].Close()
	case <-time.After(killedTime):
		p.log.log.Error("a renderer was killed and does not end")
	}
}

// endSoon lets a process that is ending finish that, so that it is known how.
func (p *process) endSoon() {
	timer := time.NewTimer(dyingTime)
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
	}
	p.end()
}

// ending is how the process ended, such as "signal: killed".
func (p *process) ending() string {
	select {
	case <-p.exited:
		return p.cmd.ProcessState.String()
	default:
		return "still there"
	}
}

// outOfMemory tells whether the process ended because it was refused memory: it
// says so by its exit code, and the Go runtime, which has its own way to ask for
// memory, in words.
func (p *process) outOfMemory() bool {
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode() == protocol.ExitOutOfMemory || p.log.outOfMemory()
	default:
		return false
	}
}

// grownBy is how much more memory the process holds than before its first
// picture.
func (p *process) grownBy() int64 { return p.resident() - p.baseline }

// Find gives the path of the program photo-processor-render: the given one, or
// else the one next to the running program.
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
