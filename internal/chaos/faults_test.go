package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/photo-processor/photo-processor/internal/devstack"
)

// ownMounts is set in the process with its own mount namespace.
const ownMounts = "CHAOS_OWN_MOUNTS"

// TestMain runs the tests in a mount namespace, if that is permitted, so that their
// file systems are unmounted however the tests end.
func TestMain(m *testing.M) {
	code, err := inOwnMounts()
	if err != nil {
		code = m.Run()
		removePrograms()
	}
	os.Exit(code)
}

// inOwnMounts runs the test binary again, with the same arguments.
func inOwnMounts() (code int, err error) {
	if os.Geteuid() != 0 || os.Getenv(ownMounts) != "" {
		return 0, errors.ErrUnsupported
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), ownMounts+"=yes")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if err := devstack.StartChild(cmd); err != nil {
		return 0, err
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code >= 0 {
		return code, nil
	}
	return 1, nil // ended by a signal
}

// diskBytes is several times the size of a batch's thumbnails and cached sources.
const diskBytes = 32 << 20

func mountSmallDisk(t *testing.T, dir string) error {
	if os.Getenv(ownMounts) == "" {
		return errors.New("that takes root, and a kernel that lets root do it")
	}
	if err := unix.Mount("chaos", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", diskBytes)); err != nil {
		return err
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return nil
}

// faultInjector executes the faults of a plan.
type faultInjector struct {
	*stack
	renderers atomic.Int64 // killed
}

// inject injects the fault, and returns when it is over.
func (h *faultInjector) inject(ctx context.Context, f fault) error {
	switch f.kind {
	case killed:
		h.kill(f.target, f.lasts)
		return nil
	case frozen:
		return h.freeze(ctx, f.target, f.lasts)
	case rendererKilled:
		h.killRenderer(ctx, f.target)
		return nil
	case diskFull:
		return h.fillDisk(ctx, f.lasts)
	default:
		return h.disturb(ctx, f)
	}
}

// kill kills the process, if it runs, and lets it restart after the duration.
func (h *faultInjector) kill(name string, lasts time.Duration) {
	if pid := h.pid(name); pid != 0 {
		h.pauses[name].extend(lasts)
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// freeze suspends the process for the duration.
func (h *faultInjector) freeze(ctx context.Context, name string, lasts time.Duration) error {
	pid := h.pid(name)
	if pid == 0 {
		return nil
	}
	_ = syscall.Kill(pid, syscall.SIGSTOP)
	err := waitUntil(ctx, time.Now().Add(lasts))
	if h.pid(name) == pid { // not killed meanwhile
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
	return err
}

// pid returns the PID of the process, 0 if it does not run.
func (h *faultInjector) pid(name string) int {
	content, err := os.ReadFile(h.dir.PIDFile(name))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil || !slices.Contains(children(os.Getpid()), pid) {
		return 0
	}
	return pid
}

// children lists the child processes. A worker's children are render processes.
func children(parent int) (pids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has exited
		}
		// See proc_pid_stat(5): pid (name) state ppid …
		_, after, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(after)
		if len(fields) > 1 && fields[0] != "Z" && fields[1] == strconv.Itoa(parent) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// rendererSoon is how long a worker may take to start a render process.
const rendererSoon = 3 * time.Second

func (h *faultInjector) killRenderer(ctx context.Context, worker string) {
	for deadline := time.Now().Add(rendererSoon); time.Now().Before(deadline); {
		if pid := h.pid(worker); pid != 0 {
			if renderers := children(pid); len(renderers) > 0 {
				h.renderers.Add(1) // before the kill, so that the auditor never sees a crash without it
				_ = syscall.Kill(renderers[0], syscall.SIGKILL)
				return
			}
		}
		if waitUntil(ctx, time.Now().Add(20*time.Millisecond)) != nil {
			return
		}
	}
}

// fillDisk fills the disk, and keeps it full for the duration.
func (h *faultInjector) fillDisk(ctx context.Context, lasts time.Duration) error {
	if h.disk == "" {
		return nil
	}
	path := filepath.Join(h.disk, "filler")
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer os.Remove(path)
	defer file.Close()
	fill := func(block []byte) error {
		for {
			if _, err := file.Write(block); err != nil {
				return err
			}
		}
	}
	if err := fill(make([]byte, 1<<20)); !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("fill the disk: %w", err)
	}
	for end := time.Now().Add(lasts); time.Now().Before(end); {
		if err := fill(make([]byte, 4<<10)); !errors.Is(err, syscall.ENOSPC) {
			return fmt.Errorf("fill the disk: %w", err)
		}
		if err := waitUntil(ctx, time.Now().Add(2*time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}

// disturb applies the fault to a link for the duration.
func (h *faultInjector) disturb(ctx context.Context, f fault) error {
	proxy := h.proxies[f.target]
	if f.kind == cut {
		proxy.Stop()
		err := waitUntil(ctx, time.Now().Add(f.lasts))
		// Another connection may use its port by now.
		for proxy.Start() != nil && err == nil {
			err = waitUntil(ctx, time.Now().Add(50*time.Millisecond))
		}
		return err
	}
	toxic := map[string]string{
		slow:   `{"type": "latency", "stream": "%s", "attributes": {"latency": 300, "jitter": 250}}`,
		reset:  `{"type": "reset_peer", "stream": "%s", "attributes": {"timeout": 0}}`,
		silent: `{"type": "timeout", "stream": "%s", "attributes": {"timeout": 0}}`,
	}[f.kind]
	for _, stream := range []string{"upstream", "downstream"} {
		if _, err := proxy.Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(toxic, stream))); err != nil {
			return fmt.Errorf("%s: %s: %w", f.target, f.kind, err)
		}
	}
	err := waitUntil(ctx, time.Now().Add(f.lasts))
	proxy.Toxics.ResetToxics(context.WithoutCancel(ctx))
	return err
}
