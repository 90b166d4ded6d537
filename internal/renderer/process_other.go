//go:build !linux

package renderer

import (
	"os"
	"os/exec"
	"runtime"
)

// startCommand starts what command makes. A process ends with us all the same,
// when its pipe closes; only one that hangs at that moment does not.
func (r *Renderer) startCommand(command func() *exec.Cmd) (*exec.Cmd, string, error) {
	cmd := command()
	return cmd, "not on " + runtime.GOOS, cmd.Start()
}

func widen(*os.File) {}

func (p *process) resident() int64 { return 0 }
