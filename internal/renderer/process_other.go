//go:build !linux

package renderer

import (
	"os"
	"os/exec"
	"runtime"
)

// startCommand starts the command that the function returns. The process exits
// after the worker does, because its pipe closes, unless it hangs at that
// moment.
func (r *Renderer) startCommand(command func() *exec.Cmd) (*exec.Cmd, string, error) {
	cmd := command()
	return cmd, "not on " + runtime.GOOS, cmd.Start()
}

func enlarge(*os.File) {}

func hasUnread(*os.File) bool { return false }

func (p *process) memory() int64 { return 0 }
