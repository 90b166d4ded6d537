//go:build unix && !linux

package devstack

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// setDeathSignal does nothing: only Linux has death signals. A child whose parent was killed runs on until the next start finds
// it by its PID file.
func setDeathSignal(*syscall.SysProcAttr, syscall.Signal) {}

func startOnLastingThread(cmd *exec.Cmd) error { return cmd.Start() }

// waitAndEndGroup waits for the command and ends what it left behind in its process group, which nobody else would. A number that
// has just been freed is most unlikely to name another group already.
func waitAndEndGroup(cmd *exec.Cmd) error {
	err := cmd.Wait()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	return err
}

// startMark tells the process apart from others that have had the same number by the second in which it started. Empty when
// there is no such process, or only a zombie.
func startMark(pid int) string {
	if state := ps(pid, "state"); state == "" || state[0] == 'Z' {
		return ""
	}
	return ps(pid, "lstart")
}

// commandLine is the process's command line, its arguments separated by spaces. Empty when there is no such process.
func commandLine(pid int) string { return ps(pid, "command") }

// processesIn would list the processes whose working directory is dir, which cannot be told here.
func processesIn(string) []int { return nil }

func ps(pid int, column string) string {
	out, err := exec.Command("ps", "-ww", "-o", column+"=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
