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

// janitorScript waits for the end of its standard input, then deletes the directory $1. The kernel has killed the servers by then;
// as long as one still writes files, deleting may fail.
const janitorScript = `
cat >/dev/null
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
