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
	// nobody owns nothing, on every Linux.
	nobody = 65534

	// maxDescriptors leaves some for the Go runtime beside the three pipes.
	maxDescriptors = 16

	// oomScore makes the kernel prefer us when memory runs out on the machine:
	// a picture can be rendered again. It counts like half of the machine's
	// memory, so that something that leaks more than that still goes first.
	oomScore = "500"
)

// Enter closes the sandbox around the process and all of its threads, and says
// what of it is in force. What the kernel cannot do is no error, but said; what it
// can and did not is one.
//
// The calling goroutine must have been locked to the main thread since the
// start of the program, for the parent's death to be noticed: the kernel signals
// it to a thread.
func Enter(l Limits) (protocol.Status, error) {
	status := protocol.Status{MaxMemory: l.Memory}

	// Best effort, as where /proc is not there.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte(oomScore), 0)

	if err := dropRoot(); err != nil {
		return status, err
	}
	status.UID = os.Getuid()
	if err := limit(l); err != nil {
		return status, err
	}
	abi, err := restrictFiles()
	if err != nil {
		return status, err
	}
	status.Landlock = abi
	status.Seccomp, err = restrictCalls()
	if err != nil {
		return status, err
	}
	nnp, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	status.NoNewPrivs = err == nil && nnp == 1
	return status, nil
}

// dropRoot makes root nobody, with no group and no capability. Who is not root
// keeps their name: there is none lower that they could take. So does a root
// that is not allowed to, as in many containers; the status says so.
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
	// Whoever changes who they are is no longer told of their parent's death.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("die with the parent: %w", err)
	}
	return nil
}

func limit(l Limits) error {
	limits := map[int]uint64{
		unix.RLIMIT_CORE:     0, // a core dump would hold a picture
		unix.RLIMIT_FSIZE:    0,
		unix.RLIMIT_MEMLOCK:  0,
		unix.RLIMIT_MSGQUEUE: 0,
		unix.RLIMIT_NOFILE:   maxDescriptors,
	}
	if l.Memory > 0 {
		// Not RLIMIT_AS: the Go runtime reserves addresses by the gigabyte that
		// it never uses. This one counts what can be written to; the memory that
		// it does not count, because it is shared, seccomp refuses.
		limits[unix.RLIMIT_DATA] = uint64(l.Memory)
	}
	for which, value := range limits {
		if err := unix.Setrlimit(which, &unix.Rlimit{Cur: value, Max: value}); err != nil {
			return fmt.Errorf("resource limit %d: %w", which, err)
		}
	}
	return nil
}

// restrictFiles has Landlock refuse all that it knows of: every file, the
// network, signals to and sockets of others.
func restrictFiles() (string, error) {
	abi, err := lowlevel.LandlockGetABIVersion()
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) || err == nil && abi < 1 {
		return "not supported by this kernel", nil
	}
	if err != nil {
		return "not allowed here: " + err.Error(), nil // as in a container that forbids it
	}
	if err := landlock.V11.BestEffort().Restrict(); err != nil {
		return "", fmt.Errorf("landlock: %w", err)
	}
	return fmt.Sprintf("ABI %d", abi), nil
}

func restrictCalls() (string, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Also where Landlock has not done it.
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return "", fmt.Errorf("no new privileges: %w", err)
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
