package renderer

import (
	"bytes"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// startCommand starts what command makes, in namespaces of its own if the
// kernel allows it, and with the order to die when we do.
func (r *Renderer) startCommand(command func() *exec.Cmd) (*exec.Cmd, string, error) {
	attributes, namespaces := isolated()
	for {
		isolate := r.namespaces.Load()
		cmd := command()
		cmd.SysProcAttr = &syscall.SysProcAttr{}
		if isolate {
			cmd.SysProcAttr = attributes
		}
		// In the kernel's sense a child's parent is the thread that made it, and
		// threads of ours end now and then.
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
		// Not the terminal's and not the supervisor's signals: we say when.
		cmd.SysProcAttr.Setpgid = true
		err := onLastingThread(cmd.Start)
		if err == nil && isolate {
			return cmd, namespaces, nil
		}
		if err == nil {
			return cmd, "none: this user may not make any", nil
		}
		if !isolate {
			return nil, "", err
		}
		// Many containers forbid it. If it was something else, it is so still.
		r.namespaces.Store(false)
	}
}

// isolated are the attributes of a process in namespaces without a network,
// without the machine's System V objects, and without its name. Root makes them
// as it likes, others within a namespace of users that has no one but them.
func isolated() (*syscall.SysProcAttr, string) {
	attributes := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS}
	if os.Geteuid() == 0 {
		return attributes, "net, ipc, uts"
	}
	attributes.Cloneflags |= unix.CLONE_NEWUSER
	attributes.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
	attributes.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
	return attributes, "user, net, ipc, uts"
}

// onLastingThread calls f on a thread that lives as long as we do.
func onLastingThread(f func() error) error {
	result := make(chan error, 1)
	lastingThread() <- func() { result <- f() }
	return <-result
}

// niceness of the processes that render, from 0 to 19; see nice(2).
const niceness = 10

var lastingThread = sync.OnceValue(func() chan<- func() {
	calls := make(chan func())
	go func() {
		runtime.LockOSThread()
		// What it starts inherits this: on a machine that is busy rendering, what
		// only takes a moment, such as the API's answers, goes first.
		_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), niceness)
		for call := range calls {
			call()
		}
	}()
	return calls
})

// widen lets a photo go through the pipe in a few pieces instead of dozens.
// Best effort: the kernel bounds what one user may have.
func widen(pipe *os.File) {
	const size = 1 << 20
	if raw, err := pipe.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, size) })
	}
}

// resident is how many bytes of memory the process holds; 0 if that cannot be
// known.
func (p *process) resident() int64 {
	statm, err := os.ReadFile("/proc/" + strconv.Itoa(p.pid()) + "/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(statm)
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
