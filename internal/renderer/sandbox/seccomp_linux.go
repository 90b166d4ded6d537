package sandbox

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

var errArchitecture = errors.New("seccomp: unknown architecture")

// The filter is an allowlist of names. A call that is not listed gets ENOSYS,
// as from a kernel without it: C libraries and the Go runtime try new calls
// first and then fall back. File calls get EACCES, because libraries look for
// optional files and work without them.
//
// The renderer never makes the calls of the last group. They kill the process,
// so that an attack shows in the log and gets one attempt.
var (
	// allowed calls are harmless whatever their arguments are. The kernel runs
	// the filter from the top, so frequent calls come first.
	allowed = []string{
		"futex", "read", "write", "madvise", "munmap", "mremap", "brk",
		"rt_sigprocmask", "rt_sigreturn", "rt_sigaction", "sigaltstack", "restart_syscall",
		"nanosleep", "clock_nanosleep", "clock_gettime", "clock_getres", "gettimeofday", "time", "sched_yield",
		"epoll_pwait", "epoll_wait", "epoll_ctl", "epoll_create1", "eventfd2", "poll", "ppoll",
		"getpid", "gettid", "getppid", "getuid", "geteuid", "getgid", "getegid", "getrandom", "getcpu", "getrlimit", "sysinfo", "uname", "getrusage",
		"sched_getaffinity", "sched_getattr", "sched_setattr", "sched_getparam", "sched_getscheduler",
		"set_robust_list", "get_robust_list", "rseq", "membarrier", "mincore", "readv", "writev", "close", "lseek",
		"exit", "exit_group",
	}

	// fileCalls get EACCES, also those for sockets and descriptors.
	fileCalls = []string{
		"open", "openat", "openat2", "creat", "stat", "lstat", "fstat", "newfstatat", "statx", "access", "faccessat", "faccessat2",
		"readlink", "readlinkat", "getdents", "getdents64", "getcwd", "chdir", "fchdir", "statfs", "fstatfs",
		"mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat",
		"mknod", "mknodat", "truncate", "ftruncate", "fallocate", "chmod", "fchmod", "fchmodat", "chown", "fchown", "lchown", "fchownat",
		"utimensat", "setxattr", "lsetxattr", "fsetxattr", "getxattr", "lgetxattr", "fgetxattr", "inotify_init1",
		// C libraries connect to name services and loggers.
		"socket", "socketpair", "connect", "bind", "listen", "accept", "accept4", "sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg",
		"ioctl", "kill", "tkill", "pipe", "pipe2", "dup", "dup2", "dup3", "memfd_create",
	}

	// tripwires kill the process.
	tripwires = []string{
		"execve", "execveat", "fork", "vfork", "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise",
		"mount", "umount2", "pivot_root", "chroot", "setns", "unshare", "open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "open_by_handle_at",
		"bpf", "perf_event_open", "userfaultfd", "kcmp", "pidfd_open", "pidfd_getfd", "pidfd_send_signal",
		"io_uring_setup", "io_uring_enter", "io_uring_register",
		"keyctl", "add_key", "request_key", "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load",
		"setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "capset", "personality",
		"reboot", "swapon", "swapoff", "acct", "iopl", "ioperm", "shmget", "shmat", "msgget", "semget",
	}
)

// condition is true for a call when argument & mask == value. Arguments count
// from 0.
type condition struct {
	argument    uint32
	mask, value uint64
}

func equal(argument uint32, value uint64) condition {
	return condition{argument, ^uint64(0), value}
}

// conditional is a call that is allowed when all conditions of one of the
// alternatives are true; otherwise it gets another action.
type conditional struct {
	name         string
	alternatives [][]condition
	otherwise    uint32
}

func conditionals() []conditional {
	either := func(argument uint32, values ...uint64) (alternatives [][]condition) {
		for _, v := range values {
			alternatives = append(alternatives, []condition{equal(argument, v)})
		}
		return alternatives
	}
	return []conditional{
		// The memory limit does not count shared memory and growing stacks.
		// Existing memory never becomes executable. New anonymous memory may
		// be: Orc, libvips' run-time compiler, maps its code with exactly these
		// flags, and saves more than a tenth of the CPU.
		{"mmap", [][]condition{
			{{3, unix.MAP_SHARED | unix.MAP_GROWSDOWN, 0}, {2, unix.PROT_EXEC, 0}},
			{equal(3, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS), equal(2, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC)},
		}, refuse(unix.EACCES)},
		{"mprotect", [][]condition{{{2, unix.PROT_EXEC, 0}}}, refuse(unix.EACCES)},
		// Threads, not processes. clone3 has its flags in memory that a filter
		// cannot read; it is not listed, and its callers fall back to clone.
		{"clone", [][]condition{{{0, unix.CLONE_THREAD, unix.CLONE_THREAD}}}, killProcess},
		// The Go runtime preempts its threads by signals, and abort sends one.
		{"tgkill", either(0, uint64(unix.Getpid())), refuse(unix.EACCES)},
		// The process may read its own limits: with no address of a new limit.
		{"prlimit64", [][]condition{{equal(0, 0), equal(2, 0)}}, refuse(unix.EACCES)},
		{"prctl", either(0, unix.PR_SET_NAME, unix.PR_SET_VMA, unix.PR_GET_NO_NEW_PRIVS), refuse(unix.EINVAL)},
		{"fcntl", either(1, unix.F_GETFD, unix.F_SETFD, unix.F_GETFL), refuse(unix.EACCES)},
	}
}

// Actions of the filter, besides refuse.
const (
	allow       = uint32(unix.SECCOMP_RET_ALLOW)
	killProcess = uint32(unix.SECCOMP_RET_KILL_PROCESS)
)

// refuse returns the action that fails a call with the error number.
func refuse(errno unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(errno) }

// Offsets in struct seccomp_data, in bytes; see seccomp(2).
const (
	offsetCall      = 0
	offsetArch      = 4
	offsetArguments = 16
)

// x32 is the bit in the numbers of x86-64's calls with 32-bit pointers.
const x32 = 0x40000000

// filter returns the BPF program. The action of each call follows its
// comparison, so that no jump is longer than one call's conditions.
//
// The program does not come from go-seccomp-bpf, which provides the numbers of
// the calls: after a false condition its programs compare the argument instead
// of the call's number.
func filter() ([]unix.SockFilter, error) {
	info, err := arch.GetInfo("")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errArchitecture, err)
	}
	program := []bpf.Instruction{
		// Kill a caller of another architecture, such as 32-bit code.
		bpf.LoadAbsolute{Off: offsetArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(info.ID), SkipTrue: 1},
		bpf.RetConstant{Val: killProcess},
		bpf.LoadAbsolute{Off: offsetCall, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: x32, SkipTrue: 1},
		bpf.RetConstant{Val: killProcess},
	}
	match := func(names []string, action uint32) {
		for _, name := range names {
			if number, ok := info.SyscallNames[name]; ok { // arm64 never had fork
				program = append(program, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(number), SkipTrue: 1}, bpf.RetConstant{Val: action})
			}
		}
	}
	match(allowed, allow)
	for _, c := range conditionals() {
		number, ok := info.SyscallNames[c.name]
		if !ok {
			continue
		}
		body := c.program()
		program = append(program, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(number), SkipTrue: uint8(len(body))})
		program = append(program, body...)
	}
	match(fileCalls, refuse(unix.EACCES))
	match(tripwires, killProcess)
	program = append(program, bpf.RetConstant{Val: refuse(unix.ENOSYS)})

	raw, err := bpf.Assemble(program)
	if err != nil {
		return nil, fmt.Errorf("seccomp: %w", err)
	}
	assembled := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		assembled[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return assembled, nil
}

// program returns the instructions for one call, whose number has matched.
func (c conditional) program() (program []bpf.Instruction) {
	for _, alternative := range c.alternatives {
		const perHalf = 3
		tests := 2 * len(alternative) * perHalf
		var body []bpf.Instruction
		for _, condition := range alternative {
			for half := range uint32(2) { // little-endian, as are all architectures with a table of calls
				body = append(body,
					bpf.LoadAbsolute{Off: offsetArguments + 8*condition.argument + 4*half, Size: 4},
					bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: uint32(condition.mask >> (32 * half))},
				)
				over := tests - len(body) // the remaining tests, and the action
				body = append(body, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(condition.value >> (32 * half)), SkipTrue: uint8(over)})
			}
		}
		program = append(append(program, body...), bpf.RetConstant{Val: allow})
	}
	return append(program, bpf.RetConstant{Val: c.otherwise})
}

// loadFilter applies the filter to all threads of the process, also those of C.
func loadFilter() error {
	program, err := filter()
	if err != nil {
		return err
	}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	if thread != 0 {
		return fmt.Errorf("seccomp: the filter cannot be applied to thread %d", thread)
	}
	return nil
}
