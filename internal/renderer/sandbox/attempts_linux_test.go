package sandbox

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

var layers = map[string]func() error{
	"nothing": func() error { return nil },
	"sandbox": func() error {
		_, err := Enter(Limits{})
		return err
	},
	"landlock": func() error {
		_, err := enforceLandlock()
		return err
	},
	"seccomp": func() error {
		_, err := enforceSeccomp()
		return err
	},
	"limits": func() error { return setLimits(Limits{}) },
	"nobody": dropRoot,
}

// attempts are what injected code could try.
var attempts = map[string]func(argument string) error{
	"compute": func(string) error { // which must work: threads and waiting
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				runtime.LockOSThread() // and end with the goroutine
				_ = make([]byte, 1<<20)
				runtime.Gosched()
			})
		}
		all.Wait()
		runtime.GC()
		return nil
	},
	"read a file":   func(string) error { _, err := os.ReadFile("/etc/hostname"); return err },
	"list a folder": func(string) error { _, err := os.ReadDir("/"); return err },
	"look for a file": func(string) error {
		_, err := os.Stat("/etc/hostname")
		return err
	},
	"create a file": func(path string) error { return os.WriteFile(path, []byte("x"), 0o600) },
	"remove a file": os.Remove,
	"connect": func(address string) error {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			err = conn.Close()
		}
		return err
	},
	"make a socket": func(string) error {
		_, _, errno := syscall.RawSyscall(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_DGRAM, 0)
		return orNil(errno)
	},
	"signal another":  func(pid string) error { return onProcess(unix.SYS_KILL, pid, 0) },
	"signal a thread": func(pid string) error { return onProcess(unix.SYS_TKILL, pid, 0) },
	"signal its thread": func(pid string) error {
		n, _ := strconv.Atoi(pid)
		return onProcess(unix.SYS_TGKILL, pid, uintptr(n), 0)
	},
	"read another's scheduling": func(pid string) error {
		var attr unix.SchedAttr
		return onProcess(unix.SYS_SCHED_GETATTR, pid, uintptr(unsafe.Pointer(&attr)), unix.SizeofSchedAttr, 0)
	},
	"change another's scheduling": func(pid string) error { // to what it is
		n, _ := strconv.Atoi(pid)
		attr := &unix.SchedAttr{Size: unix.SizeofSchedAttr}
		if nice, err := unix.Getpriority(unix.PRIO_PROCESS, n); err == nil {
			attr.Nice = int32(20 - nice)
		}
		return onProcess(unix.SYS_SCHED_SETATTR, pid, uintptr(unsafe.Pointer(attr)), 0)
	},
	"read another's scheduler": func(pid string) error { return onProcess(unix.SYS_SCHED_GETSCHEDULER, pid) },
	"read another's real-time priority": func(pid string) error {
		var parameter int32
		return onProcess(unix.SYS_SCHED_GETPARAM, pid, uintptr(unsafe.Pointer(&parameter)))
	},
	"read another's CPUs": func(pid string) error {
		var set unix.CPUSet
		return onProcess(unix.SYS_SCHED_GETAFFINITY, pid, unsafe.Sizeof(set), uintptr(unsafe.Pointer(&set)))
	},
	"read another's locks": func(pid string) error {
		var head, size uintptr
		return onProcess(unix.SYS_GET_ROBUST_LIST, pid, uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&size)))
	},
	"read another's limits": func(pid string) error {
		var limit unix.Rlimit
		return onProcess(unix.SYS_PRLIMIT64, pid, unix.RLIMIT_NOFILE, 0, uintptr(unsafe.Pointer(&limit)))
	},
	"read another's niceness": func(pid string) error {
		n, _ := strconv.Atoi(pid)
		_, err := unix.Getpriority(unix.PRIO_PROCESS, n)
		return err
	},
	"read another's I/O priority": func(pid string) error {
		n, _ := strconv.Atoi(pid)
		_, _, errno := syscall.RawSyscall(unix.SYS_IOPRIO_GET, 1, uintptr(n), 0)
		return orNil(errno)
	},
	"read another's capabilities": func(pid string) error {
		n, _ := strconv.Atoi(pid)
		header, data := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3, Pid: int32(n)}, [2]unix.CapUserData{}
		return unix.Capget(&header, &data[0])
	},
	"read another's session":       func(pid string) error { return onProcess(unix.SYS_GETSID, pid) },
	"read another's group":         func(pid string) error { return onProcess(unix.SYS_GETPGID, pid) },
	"read another's pages":         func(pid string) error { return onProcess(unix.SYS_MOVE_PAGES, pid, 0, 0, 0, 0, 0) },
	"open another by a descriptor": func(pid string) error { return onProcess(unix.SYS_PIDFD_OPEN, pid, 0) },
	"compare another with the next": func(pid string) error {
		n, _ := strconv.Atoi(pid)
		return onProcess(unix.SYS_KCMP, pid, uintptr(n), 0, 0, 0)
	},
	"read another's CPU time": func(pid string) error {
		n, _ := strconv.Atoi(pid)
		const perProcess, scheduler = 0, 2
		clock := int32(^uint32(n)<<3 | perProcess | scheduler)
		var now unix.Timespec
		_, _, errno := syscall.RawSyscall(unix.SYS_CLOCK_GETTIME, uintptr(clock), uintptr(unsafe.Pointer(&now)), 0)
		return orNil(errno)
	},
	"inherit a priority": func(string) error {
		const tryLock = 8 // FUTEX_TRYLOCK_PI
		var lock uint32
		_, _, errno := syscall.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&lock)), tryLock, 0, 0, 0, 0)
		return orNil(errno)
	},
	"share memory": func(string) error {
		_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANON)
		return err
	},
	// Flags whose value is the number of execve: a filter that confuses the
	// two would kill the process.
	"share memory, oddly": func(string) error {
		_, _, errno := syscall.RawSyscall6(unix.SYS_MMAP, 0, 4096, unix.PROT_READ, unix.SYS_EXECVE, ^uintptr(0), 0)
		return orNil(errno)
	},
	// Each of the next five gets memory that RLIMIT_DATA does not count.
	"fill memory and make it read-only": func(string) error {
		page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return nil // "done", which fails the test
		}
		page[0] = 1
		return unix.Mprotect(page, unix.PROT_READ)
	},
	"make page tables by reading": func(string) error {
		const huge = 1 << 36
		memory, _, errno := syscall.RawSyscall6(unix.SYS_MMAP, 0, huge, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE, ^uintptr(0), 0)
		if errno == 0 {
			_, _, errno = syscall.RawSyscall(unix.SYS_MUNMAP, memory, huge, 0)
		}
		return orNil(errno)
	},
	"make page tables of guards": func(string) error {
		const guardInstall = 102 // MADV_GUARD_INSTALL
		memory, err := unix.Mmap(-1, 0, 1<<30, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
		if err != nil {
			return nil
		}
		_, _, errno := syscall.RawSyscall(unix.SYS_MADVISE, uintptr(unsafe.Pointer(unsafe.SliceData(memory))), 4096, guardInstall)
		return orNil(errno)
	},
	"map a growing stack": func(string) error {
		_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_GROWSDOWN)
		return err
	},
	"enlarge memory in place": func(string) error { // which can be the main thread's stack
		memory, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return nil
		}
		_, _, errno := syscall.RawSyscall6(unix.SYS_MREMAP, uintptr(unsafe.Pointer(&memory[0])), 4096, 1<<20, unix.MREMAP_MAYMOVE, 0, 0)
		return orNil(errno)
	},
	"make code": func(string) error {
		_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
		return err
	},
	"share code": func(string) error {
		_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_SHARED|unix.MAP_ANON)
		return err
	},
	"make a file code": func(string) error {
		_, err := unix.Mmap(3, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
		return err
	},
	"make data code": func(string) error {
		page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return err
		}
		return unix.Mprotect(page, unix.PROT_READ|unix.PROT_EXEC)
	},
	"raise a limit": func(string) error {
		var now unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
			return nil // "done", which fails the test: reading a limit is allowed
		}
		return unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: now.Cur, Max: now.Max})
	},
	"write to a file that is open": func(path string) error {
		_, err := os.NewFile(3, path).Write([]byte("x"))
		return err
	},
	"execute":       func(string) error { return syscall.Exec("/bin/true", []string{"true"}, nil) },
	"run a program": func(string) error { return exec.Command("/bin/true").Run() },
	"fork": func(string) error {
		child, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if errno == 0 && child == 0 {
			_, _, _ = syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
		return orNil(errno)
	},
	"trace": func(string) error {
		_, _, errno := syscall.RawSyscall(unix.SYS_PTRACE, unix.PTRACE_TRACEME, 0, 0)
		return orNil(errno)
	},
	"read another's memory": func(pid string) error {
		n, _ := strconv.Atoi(pid)
		var b [1]byte
		local := unix.Iovec{Base: &b[0], Len: 1}
		_, _, errno := syscall.RawSyscall6(unix.SYS_PROCESS_VM_READV, uintptr(n), uintptr(unsafe.Pointer(&local)), 1, 0, 0, 0)
		return orNil(errno)
	},
	"become root": func(string) error {
		_, _, errno := syscall.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0)
		return orNil(errno)
	},
	"leave the namespaces": func(string) error { return unix.Unshare(unix.CLONE_NEWUSER) },
}

// onProcess makes a system call whose first argument is the process ID.
func onProcess(call uintptr, pid string, arguments ...uintptr) error {
	n, err := strconv.Atoi(pid)
	if err != nil {
		return nil // "done", which fails the test
	}
	var all [6]uintptr
	all[0] = uintptr(n)
	copy(all[1:], arguments)
	_, _, errno := syscall.RawSyscall6(call, all[0], all[1], all[2], all[3], all[4], all[5])
	return orNil(errno)
}

func orNil(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

// try runs an attempt inside a layer. It returns "done", "refused", or "killed"
// if the filter killed the process.
func try(t *testing.T, layer, attempt, argument string, files ...*os.File) string {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = []string{probe + "=" + layer + " " + attempt, "SANDBOX_ARGUMENT=" + argument, "GORACE=atexit_sleep_ms=0"}
	cmd.ExtraFiles = files
	output, err := cmd.CombinedOutput()
	t.Logf("%s: %v\n%s", layer, err, output)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if status := exit.Sys().(syscall.WaitStatus); status.Signaled() && status.Signal() == unix.SIGSYS {
			return "killed"
		}
		t.Fatalf("%s inside %s: %v", attempt, layer, err)
	}
	switch {
	case err == nil && len(output) == 0: // execve succeeded
		return "done"
	case strings.HasPrefix(string(output), "done"):
		return "done"
	case strings.HasPrefix(string(output), "refused: "):
		return "refused"
	}
	t.Fatalf("%s inside %s: no answer", attempt, layer)
	return ""
}
