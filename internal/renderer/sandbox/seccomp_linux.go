package sandbox

import (
	"errors"
	"fmt"
	"math"
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
	// allowed calls reach nothing outside the process, whatever their arguments
	// are. Calls that glibc and Go usually answer in the vDSO are needed on
	// machines without a usable clock there.
	allowed = []string{
		"read", "write", // the three pipes
		"writev",        // glibc's last words before it aborts
		"munmap", "brk", // Go and glibc: memory
		"rt_sigprocmask", "rt_sigreturn", "rt_sigaction", "sigaltstack", // Go: preemption by signals; glibc: threads, abort
		"restart_syscall",          // the kernel: after SIGSTOP and SIGCONT
		"nanosleep", "sched_yield", // Go and GLib: locks
		"gettimeofday", "time", // libraries: clocks, outside the vDSO
		"epoll_pwait", "epoll_ctl", "epoll_create1", "eventfd2", // Go: timers
		"getpid", "gettid", // Go and glibc: the arguments of tgkill
		"getrandom",                       // Go: seeds of maps
		"getrlimit",                       // Go's own call; it is the caller's limit
		"sysinfo",                         // glibc's qsort: how much memory it may take
		"set_robust_list", "rseq", "exit", // glibc: threads
		"exit_group", // end of the process
	}

	// fileCalls get EACCES, also those for sockets, descriptors and signals.
	fileCalls = []string{
		"open", "openat", "openat2", "creat", "stat", "lstat", "fstat", "newfstatat", "statx", "access", "faccessat", "faccessat2",
		"readlink", "readlinkat", "getdents", "getdents64", "getcwd", "chdir", "fchdir", "statfs", "fstatfs",
		"mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat",
		"mknod", "mknodat", "truncate", "ftruncate", "fallocate", "chmod", "fchmod", "fchmodat", "chown", "fchown", "lchown", "fchownat",
		"utimensat", "setxattr", "lsetxattr", "fsetxattr", "getxattr", "lgetxattr", "fgetxattr", "inotify_init1",
		// C libraries connect to name services and loggers.
		"socket", "socketpair", "connect", "bind", "listen", "accept", "accept4", "sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg",
		"ioctl", "fcntl", "lseek", "close", "kill", "tkill", "pipe", "pipe2", "dup", "dup2", "dup3", "memfd_create",
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

// equalInt is equal for an argument that the kernel takes as an int: it ignores
// the upper half, which callers may leave undefined.
func equalInt(argument, value uint32) condition {
	return condition{argument, math.MaxUint32, uint64(value)}
}

// conditional is a call that is allowed when all conditions of one of the
// alternatives are true; otherwise it gets another action.
type conditional struct {
	name         string
	alternatives [][]condition
	otherwise    uint32
}

func conditionals() []conditional {
	either := func(argument uint32, values ...uint32) (alternatives [][]condition) {
		for _, v := range values {
			alternatives = append(alternatives, []condition{equalInt(argument, v)})
		}
		return alternatives
	}
	// A process or thread ID of 0 is the caller's own.
	onlySelf := either(0, 0)
	// Negative clocks are the CPU time of a process or belong to a descriptor.
	realClock := [][]condition{{{0, 1 << 31, 0}}}

	return []conditional{
		// Go, glibc, GLib: locks. Operations with priority inheritance, which
		// name the thread that holds the lock, are missing: it may be any
		// thread of the machine.
		{"futex", [][]condition{
			{{1, math.MaxUint32 &^ (futexFlags | futexWake), futexWait}}, // also futexWake
			{{1, math.MaxUint32 &^ futexFlags, futexWaitBitset}},
			{{1, math.MaxUint32 &^ futexFlags, futexWakeBitset}},
			{{1, math.MaxUint32 &^ futexFlags, futexRequeue}},
			{{1, math.MaxUint32 &^ futexFlags, futexCompareRequeue}},
		}, refuse(unix.ENOSYS)},
		// Go and glibc: heaps. MADV_GUARD_INSTALL, for example, makes page
		// tables, which the memory limit does not count.
		{"madvise", either(2, unix.MADV_DONTNEED, unix.MADV_FREE, unix.MADV_HUGEPAGE, unix.MADV_NOHUGEPAGE, unix.MADV_COLLAPSE), refuse(unix.EINVAL)},
		// Go and glibc reserve addresses without access and then make them
		// writable. The memory limit counts exactly the private memory that is
		// writable: not shared memory, growing stacks and huge pages, nor what
		// was filled and then made read-only, nor the page tables of memory
		// that is only read.
		//
		// Existing memory never becomes executable. New anonymous memory may
		// be: Orc, libvips' run-time compiler, maps its code with exactly these
		// flags, and saves more than a tenth of the CPU.
		{"mmap", [][]condition{
			{equal(2, readWrite), {3, anyMapFlags &^ mapOptions, privateMemory}},
			{equal(2, unix.PROT_NONE), {3, anyMapFlags &^ mapOptions, privateMemory}},
			{equal(2, readWrite|unix.PROT_EXEC), equal(3, privateMemory)},
		}, refuse(unix.EACCES)},
		{"mprotect", [][]condition{{equal(2, readWrite)}}, refuse(unix.EACCES)},
		// mremap is missing: it enlarges the main thread's stack, which the
		// memory limit does not count. glibc's realloc copies instead.
		// glibc and Go: threads, not processes, and no new namespaces. clone3 has
		// its flags in memory that a filter cannot read; it is not listed, and
		// its callers fall back to clone.
		{"clone", [][]condition{{{0, unix.CLONE_THREAD | newNamespaces, unix.CLONE_THREAD}}}, killProcess},
		// The Go runtime preempts its threads by signals, and abort sends one.
		{"tgkill", either(0, uint32(unix.Getpid())), refuse(unix.EACCES)},
		// dav1d, aom, OpenMP: the number of CPUs.
		// photo-processor-render makes them ask for the calling thread.
		// glibc's pthread_getattr_np, which cgo calls, accepts only ENOSYS.
		{"sched_getaffinity", onlySelf, refuse(unix.ENOSYS)},
		// glibc: the size of stacks. With no address of a new limit.
		{"prlimit64", [][]condition{{equalInt(0, 0), equal(2, 0)}}, refuse(unix.EACCES)},
		{"clock_gettime", realClock, refuse(unix.EINVAL)},   // libraries, outside the vDSO
		{"clock_nanosleep", realClock, refuse(unix.EINVAL)}, // glibc: usleep
		// Go names its memory; dav1d names its threads; Enter reads the last.
		{"prctl", either(0, unix.PR_SET_NAME, unix.PR_SET_VMA, unix.PR_GET_NO_NEW_PRIVS), refuse(unix.EINVAL)},
	}
}

const (
	readWrite     = unix.PROT_READ | unix.PROT_WRITE
	privateMemory = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
	// mapOptions are the flags of mmap that do not change what the limit on
	// memory counts.
	mapOptions  = unix.MAP_FIXED | unix.MAP_NORESERVE | unix.MAP_STACK
	anyMapFlags = math.MaxUint64

	// Operations of futex; see linux/futex.h.
	futexWait           = 0
	futexWake           = 1
	futexRequeue        = 3
	futexCompareRequeue = 4
	futexWaitBitset     = 9
	futexWakeBitset     = 10
	// futexFlags modify the operations: FUTEX_PRIVATE_FLAG and
	// FUTEX_CLOCK_REALTIME.
	futexFlags = 128 | 256

	// newNamespaces are the flags of clone for namespaces.
	newNamespaces = unix.CLONE_NEWCGROUP | unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUSER | unix.CLONE_NEWUTS
)

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
	// Recent kernels remember the calls that are allowed whatever their
	// arguments are, and skip the program for them. So the others come first,
	// the frequent ones on top.
	for _, c := range conditionals() {
		number, ok := info.SyscallNames[c.name]
		if !ok {
			continue
		}
		body := c.program()
		program = append(program, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(number), SkipTrue: uint8(len(body))})
		program = append(program, body...)
	}
	match(allowed, allow)
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
