package devstack

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// StartChild starts the command, whose process the kernel kills when this
// process ends, however that is. SysProcAttr.Pdeathsig may name another signal
// than SIGKILL.
func StartChild(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	if cmd.SysProcAttr.Pdeathsig == 0 {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	// The kernel sends the signal when the thread that forked ends, and Go ends
	// threads now and then.
	result := make(chan error, 1)
	lastingThread() <- func() { result <- cmd.Start() }
	return <-result
}

// RunChild starts the command like StartChild, and waits until it has ended.
func RunChild(cmd *exec.Cmd) error {
	if err := StartChild(cmd); err != nil {
		return err
	}
	return cmd.Wait()
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

// endPostgres ends all PostgreSQL processes that use the data directory: a
// server that somebody started by hand, or backends of a killed one, which keep
// its shared memory until they notice.
func endPostgres(ctx context.Context, data string) error {
	ctx, cancel := context.WithTimeout(ctx, postgresStopTimeout)
	defer cancel()
	for {
		pids := postgresProcesses(data)
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGQUIT)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL's processes %v, which use %s, do not end: %w", pids, data, ctx.Err())
		case <-time.After(pollInterval):
		}
	}
}

// postgresProcesses lists PostgreSQL's processes that use the data directory,
// which is the working directory of each.
func postgresProcesses(data string) (pids []int) {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		process := filepath.Dir(link)
		name, _ := os.ReadFile(filepath.Join(process, "comm"))
		if target, err := os.Readlink(link); err == nil && target == data && string(bytes.TrimSpace(name)) == "postgres" {
			pid, _ := strconv.Atoi(filepath.Base(process))
			pids = append(pids, pid)
		}
	}
	return pids
}
