package devstacktest

import (
	"io"
	"os"
	"os/exec"
	"syscall"

	"github.com/photo-processor/photo-processor/internal/devstack"
)

// sandbox is the directory of one server. A janitor deletes it should we die before remove is called.
type sandbox struct {
	dir devstack.Dir

	// leash is a pipe that nobody writes to. Its other end is the janitor's standard input, so the kernel tells the janitor of
	// our death by closing this one.
	leash io.Closer

	janitor *exec.Cmd
}

// janitorScript waits for the end of its standard input, then ends the servers that are still there and deletes the directory $1.
// On Linux the servers have been signalled by the kernel and are about to go. Elsewhere they are found by their PID files, which
// tell in their second line when the process started, lest another one be killed that has its number now. As long as a server
// writes files, deleting may fail.
const janitorScript = `
cat >/dev/null
for file in "$1"/pids/*.pid; do
	[ -f "$file" ] || continue
	{ read -r pid; read -r mark; } <"$file"
	[ "$(ps -ww -o lstart= -p "$pid" 2>/dev/null)" = "$mark" ] && kill -9 "$pid"
done
attempt=0
until rm -rf "$1" 2>/dev/null || [ $attempt -ge 100 ]; do
	attempt=$((attempt + 1))
	sleep 0.1
done
`

// newSandbox makes an empty directory in parent.
func newSandbox(parent string) (*sandbox, error) {
	root, err := os.MkdirTemp(parent, "photo-processor-test-")
	if err != nil {
		return nil, err
	}
	// The user that PostgreSQL runs as must pass.
	if err := os.Chmod(root, 0o711); err != nil {
		return nil, err
	}
	dir, err := devstack.NewDir(root)
	if err != nil {
		return nil, err
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		_ = os.Remove(root)
		return nil, err
	}
	defer reader.Close()

	janitor := exec.Command("/bin/sh", "-c", janitorScript, "janitor", root)
	janitor.Stdin = reader
	janitor.Dir = "/"
	// A session of its own, out of reach of Ctrl-C. Its output goes nowhere: go test waits until nobody holds its pipes.
	janitor.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := janitor.Start(); err != nil {
		_ = writer.Close()
		_ = os.Remove(root)
		return nil, err
	}
	return &sandbox{dir: dir, leash: writer, janitor: janitor}, nil
}

// remove deletes the directory. The server in it must have stopped.
func (b *sandbox) remove() {
	_ = os.RemoveAll(b.dir.Root)
	// The janitor finds nothing to do.
	_ = b.leash.Close()
	_ = b.janitor.Wait()
}
