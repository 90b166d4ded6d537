package sandbox

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"github.com/landlock-lsm/go-landlock/landlock"
	lowlevel "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"

	"github.com/photo-processor/photo-processor/internal/renderer/protocol"
)

const (
	// nobody is the user and group that own no files.
	nobody = 65534

	// maxDescriptors admits the three pipes and the Go runtime's descriptors.
	maxDescriptors = 16

	// oomScore makes the kernel kill this process early when the machine runs
	// out of memory, because a picture can be rendered again. It adds half of
	// the machine's memory to what the process uses, so a process that leaks
	// more than that is still killed first.
	oomScore = "500"
)

// Enter puts all threads of the process into the sandbox and returns the
// measures in force. A measure that the kernel does not support is noted in the
// status; one that fails is an error.
//
// The calling goroutine must have been locked to the main thread since the
// start of the program: the kernel sends the signal of the parent's death to
// the thread that asked for it.
func Enter(l Limits) (protocol.Status, error) {
	status := protocol.Status{MaxMemory: l.Memory}

	// Best effort: /proc may not be mounted.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte(oomScore), 0)

	if err := dropRoot(); err != nil {
		return status, err
	}
	status.UID = os.Getuid()
	if err := setLimits(l); err != nil {
		return status, err
	}
	abi, err := enforceLandlock()
	if err != nil {
		return status, err
	}
	status.Landlock = abi
	status.Seccomp, err = enforceSeccomp()
	if err != nil {
		return status, err
	}
	nnp, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	status.NoNewPrivs = err == nil && nnp == 1
	return status, nil
}

// dropRoot changes root to nobody, without groups and capabilities. Other users
// stay: they cannot change to a user with fewer rights. Root stays where it may
// not change users, as in many containers; the status shows that.
func dropRoot() error {
	if os.Geteuid() != 0 {
		return nil
	}
	for _, step := range []struct {
		name string
		err  error
	}{
		{"leave all groups", syscall.Setgroups(nil)},
		{"become nobody's group", syscall.Setresgid(nobody, nobody, nobody)},
		{"become nobody", syscall.Setresuid(nobody, nobody, nobody)},
	} {
		if step.err != nil && !errors.Is(step.err, unix.EPERM) && !errors.Is(step.err, unix.EINVAL) {
			return fmt.Errorf("%s: %w", step.name, step.err)
		}
	}
	// A change of the user clears the parent death signal.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("set the parent death signal: %w", err)
	}
	return nil
}

// setLimits sets resource limits, which the process can never raise again.
func setLimits(l Limits) error {
	limits := map[int]uint64{
		unix.RLIMIT_CORE:     0, // a core dump would hold a picture
		unix.RLIMIT_FSIZE:    0,
		unix.RLIMIT_MEMLOCK:  0,
		unix.RLIMIT_MSGQUEUE: 0,
		unix.RLIMIT_NOFILE:   maxDescriptors,
	}
	if l.Memory > 0 {
		// RLIMIT_AS would count gigabytes of addresses that the Go runtime
		// reserves and never uses. RLIMIT_DATA counts private writable memory;
		// seccomp denies the other kinds.
		limits[unix.RLIMIT_DATA] = uint64(l.Memory)
	}
	for which, value := range limits {
		if err := unix.Setrlimit(which, &unix.Rlimit{Cur: value, Max: value}); err != nil {
			return fmt.Errorf("resource limit %d: %w", which, err)
		}
	}
	return nil
}

// enforceLandlock denies all that Landlock covers: files, network, signals to
// other processes and their sockets. It returns the ABI version or, where there
// is no Landlock, the reason.
func enforceLandlock() (string, error) {
	abi, err := lowlevel.LandlockGetABIVersion()
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) || err == nil && abi < 1 {
		return "not supported by this kernel", nil
	}
	if err != nil {
		return "not allowed here: " + err.Error(), nil // for example by a container
	}
	if err := landlock.V11.BestEffort().Restrict(); err != nil {
		return "", fmt.Errorf("landlock: %w", err)
	}
	return fmt.Sprintf("ABI %d", abi), nil
}

// enforceSeccomp loads the filter of system calls. It returns "on" or, where
// the kernel does not support it, the reason.
func enforceSeccomp() (string, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Without Landlock, nothing has set it yet.
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return "", fmt.Errorf("set no_new_privs: %w", err)
	}
	err := loadFilter()
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, errArchitecture) {
		return "not supported by this kernel: " + err.Error(), nil
	}
	if err != nil {
		return "", err
	}
	return "on", nil
}
