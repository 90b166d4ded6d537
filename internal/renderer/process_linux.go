package renderer

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/photo-processor/photo-processor/internal/renderer/protocol"
)

// startCommand starts the command that the function returns, in new namespaces
// if the kernel allows them, and returns the namespaces, or why there are none.
// The kernel kills the process when the worker exits.
//
// A kernel that refuses namespaces may only be short of memory or at a limit,
// so each process tries again.
func (r *Renderer) startCommand(command func() *exec.Cmd) (*exec.Cmd, string, error) {
	attributes, namespaces := namespaceAttributes()
	cmd := command()
	refused := startChild(cmd, attributes)
	if refused == nil {
		return cmd, namespaces, nil
	}
	cmd = command()
	if r.config.RequireSandbox {
		if _, err := os.Stat(cmd.Path); err != nil {
			return nil, "", err // which is not the fault of namespaces
		}
		return nil, "", &missingError{[]string{"namespaces: " + reason(refused)}}
	}
	// Any error but a refusal of namespaces occurs again without them.
	if err := startChild(cmd, &syscall.SysProcAttr{}); err != nil {
		return nil, "", err
	}
	r.warnNamespaces(refused)
	return cmd, "none: " + reason(refused), nil
}

// reason returns the text of the system call's error, without the name of the
// program.
func reason(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	return err.Error()
}

// warnNamespaces logs that a process runs without namespaces, at most once in
// warnInterval.
func (r *Renderer) warnNamespaces(err error) {
	const warnInterval = 10 * time.Minute
	now := time.Now().UnixNano()
	if last := r.namespacesWarned.Load(); last == 0 || now-last > int64(warnInterval) {
		r.namespacesWarned.Store(now)
		r.config.Log.Warn("a render process runs without namespaces of its own, under the other layers of the sandbox; the next process tries again", "error", err)
	}
}

func startChild(cmd *exec.Cmd, attributes *syscall.SysProcAttr) error {
	cmd.SysProcAttr = attributes
	// For the kernel, a child's parent is the thread that created it, and
	// the Go runtime ends threads now and then.
	attributes.Pdeathsig = syscall.SIGKILL
	// Signals of a terminal or a service manager must not reach the
	// process: the worker ends it when its photos are done.
	attributes.Setpgid = true
	return onPermanentThread(cmd.Start)
}

// namespaceAttributes returns the attributes of a process in namespaces that
// have no network, no System V objects and no host name of the machine, and the
// names of the namespaces. Without root's privileges that takes a user
// namespace too, in which the user is the only one.
func namespaceAttributes() (*syscall.SysProcAttr, string) {
	attributes := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS}
	if os.Geteuid() == 0 {
		return attributes, protocol.Namespaces
	}
	attributes.Cloneflags |= unix.CLONE_NEWUSER
	attributes.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
	attributes.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
	return attributes, "user, " + protocol.Namespaces
}

// onPermanentThread calls f on a thread that lives until the worker exits.
func onPermanentThread(f func() error) error {
	result := make(chan error, 1)
	permanentThread() <- func() { result <- f() }
	return <-result
}

// niceness of the render processes, from 0 to 19; see nice(2). On a busy
// machine short work, such as the API's answers, goes before them.
const niceness = 10

var permanentThread = sync.OnceValue(func() chan<- func() {
	calls := make(chan func())
	go func() {
		runtime.LockOSThread()
		_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), niceness) // inherited by children
		for call := range calls {
			call()
		}
	}()
	return calls
})

// enlarge gives the pipe a buffer of 1 MiB, so that a photo passes in a few
// pieces instead of dozens. Best effort: the kernel limits the buffers of a
// user.
func enlarge(pipe *os.File) {
	const size = 1 << 20
	if raw, err := pipe.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, size) })
	}
}

// hasUnread returns whether the pipe, of which this is the writing end, holds
// bytes that were never read.
func hasUnread(pipe *os.File) bool {
	raw, err := pipe.SyscallConn()
	if err != nil {
		return false
	}
	n := 0
	_ = raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return n > 0
}

// memory returns the bytes of memory that the process holds for itself, with
// its page tables, or 0 if /proc does not show them.
func (p *process) memory() int64 {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(p.pid()) + "/status")
	if err != nil {
		return 0
	}
	var total int64
	for line := range bytes.Lines(status) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch string(name) {
		case "RssAnon", "RssShmem", "VmSwap", "VmPTE", "HugetlbPages":
			kilobytes, _ := strconv.ParseInt(string(bytes.TrimSuffix(bytes.TrimSpace(value), []byte(" kB"))), 10, 64)
			total += kilobytes << 10
		}
	}
	return total
}
