package devstacktest

import (
	"io"
	"os"
	"os/exec"
	"syscall"

	"github.com/photo-processor/photo-processor/internal/devstack"
)

// serverDir is the directory of one server. A janitor process deletes it if this
// process dies before it calls remove.
type serverDir struct {
	dir devstack.Dir

	// alive is the write end of the janitor's standard input. The kernel closes it
	// when this process dies.
	alive io.Closer

	janitor *exec.Cmd
}

// janitorScript waits for the end of its standard input, then deletes the
// directory $1, which may fail while a server that is being killed writes files.
const janitorScript = `
cat >/dev/null
attempt=0
until rm -rf "$1" 2>/dev/null || [ $attempt -ge 100 ]; do
	attempt=$((attempt + 1))
	sleep 0.1
done
`

// newServerDir creates an empty directory in parent.
func newServerDir(parent string) (*serverDir, error) {
	root, err := os.MkdirTemp(parent, "photo-processor-test-")
	if err != nil {
		return nil, err
	}
	// PostgreSQL's user must be able to enter.
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
	// Ctrl-C must not reach it. Without output, because go test waits until its pipes
	// are closed.
	janitor.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := janitor.Start(); err != nil {
		_ = writer.Close()
		_ = os.Remove(root)
		return nil, err
	}
	return &serverDir{dir: dir, alive: writer, janitor: janitor}, nil
}

// remove deletes the directory. Its server must have stopped.
func (d *serverDir) remove() {
	_ = os.RemoveAll(d.dir.Root)
	_ = d.alive.Close()
	_ = d.janitor.Wait()
}
