//go:build !linux

package sourcecache

import (
	"errors"
	"os"
)

func newNamelessFile(string) (*os.File, error) { return nil, errors.ErrUnsupported }
