package devstack

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
)

// run runs a program that ends by itself, with what cmd says of its directory, environment and user. The error quotes what it
// printed. When ctx ends, or we are killed, it is killed together with all that it has started.
func run(ctx context.Context, cmd *exec.Cmd) error {
	var output bytes.Buffer
	cmd.Stdout = &output
	cmd.Stderr = &output
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	setDeathSignal(cmd.SysProcAttr, syscall.SIGKILL)
	err := startOnLastingThread(cmd)
	if err == nil {
		// What it runs is in its group.
		stop := context.AfterFunc(ctx, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
		err = cmd.Wait()
		if !stop() {
			err = ctx.Err()
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w\n\t%s", strings.Join(cmd.Args, " "), err,
			bytes.ReplaceAll(bytes.TrimSpace(output.Bytes()), []byte("\n"), []byte("\n\t")))
	}
	return nil
}
