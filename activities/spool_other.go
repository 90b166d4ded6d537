//go:build !linux

package activities

import (
	"errors"
	"os"
)

func newNamelessFile(string) (*os.File, error) { return nil, errors.ErrUnsupported }
