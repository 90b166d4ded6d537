package sourcecache

import (
	"os"

	"golang.org/x/sys/unix"
)

// openUnnamed opens a new file that has no name in dir.
func openUnnamed(dir string) (*os.File, error) {
	return os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, 0o600)
}
