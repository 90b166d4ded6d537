package devstack

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// setDeathSignal has the kernel signal the child when its parent dies, however that happens: no deferred call runs after a
// panic in another goroutine, os.Exit, the deadline of go test or SIGKILL.
func setDeathSignal(attr *syscall.SysProcAttr, signal syscall.Signal) { attr.Pdeathsig = signal }

// startOnLastingThread starts the command on one OS thread that lives as long as we do. To the kernel the "parent" of a death
// signal is the thread that forked, not the process, and Go ends threads now and then: the child would be signalled for no
// visible reason.
func startOnLastingThread(cmd *exec.Cmd) error {
	result := make(chan error, 1)
	lastingThread() <- func() { result <- cmd.Start() }
	return <-result
}

var lastingThread = sync.OnceValue(func() chan<- func() {
	calls := make(chan func())
	go func() {
		runtime.LockOSThread()
		for call := range calls {
			call()
		}
	}()
	return calls
})

// waitAndEndGroup waits for the command and ends what it left behind in its process group, which nobody else would. The group is
// named after the process, so it is signalled while the process has exited but not been waited for: its number is not given out
// again before that.
func waitAndEndGroup(cmd *exec.Cmd) error {
	for {
		err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	return cmd.Wait()
}

// startMark tells the process apart from every other one that ever has the same number: the boot, and the clock tick in it in
// which the process started. Empty when there is none, or only a zombie.
func startMark(pid int) string {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return ""
	}
	// See proc_pid_stat(5). The second field, the name, is in parentheses and may contain anything, also ") ".
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const state, startTime = 0, 19 // fields 3 and 22
	if len(fields) <= startTime || fields[state][0] == 'Z' || fields[state][0] == 'X' {
		return ""
	}
	return bootID() + " " + string(fields[startTime])
}

var bootID = sync.OnceValue(func() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id))
})

// commandLine is the process's command line, its arguments separated by spaces. Empty when there is no such process.
func commandLine(pid int) string {
	args, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(bytes.ReplaceAll(args, []byte{0}, []byte{' '})))
}

// processesIn lists the processes whose working directory is dir.
func processesIn(dir string) []int {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	var pids []int
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && target == dir {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link)))
			pids = append(pids, pid)
		}
	}
	return pids
}
