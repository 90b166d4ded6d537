package sourcecache

import (
	"os"

	"golang.org/x/sys/unix"
)

func newNamelessFile(dir string) (*os.File, error) {
	return os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, 0o600)
}
