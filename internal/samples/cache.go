package samples

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/singleflight"
)

// cache is a directory of files that are written at their first use. It never
// removes any.
type cache struct {
	dir   string
	group singleflight.Group // by file name
	slots chan struct{}      // one for each file that is being written, since drawing takes much memory
}

func newCache(dir string) *cache {
	return &cache{dir: dir, slots: make(chan struct{}, runtime.GOMAXPROCS(0))}
}

// open opens the file with a name. If it does not exist, write writes it: once
// for all concurrent callers, and also if the context of one of them ends.
func (c *cache) open(ctx context.Context, name string, write func(io.Writer) error) (*os.File, error) {
	path := filepath.Join(c.dir, name)
	file, err := os.Open(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return file, err
	}
	written := c.group.DoChan(name, func() (any, error) {
		c.slots <- struct{}{}
		defer func() { <-c.slots }()
		if _, err := os.Stat(path); err == nil {
			return nil, nil // an earlier call has written it since os.Open
		}
		return nil, c.create(path, write)
	})
	select {
	case result := <-written:
		if result.Err != nil {
			return nil, result.Err
		}
		return os.Open(path)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// create writes a file atomically: to a temporary file, which it then renames.
func (c *cache) create(path string, write func(io.Writer) error) (err error) {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	file, err := os.CreateTemp(c.dir, ".making-*")
	if err != nil {
		return err
	}
	defer func() {
		file.Close()
		if err != nil {
			os.Remove(file.Name())
		}
	}()
	out := bufio.NewWriter(file)
	if err := write(out); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	// Without Sync, a power failure can leave an empty file at path.
	if err := file.Sync(); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
