package devstack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	// maxLogBytes is the size over which a log is put aside when its process starts. With the one older log that is kept, a
	// log takes about twice as much, plus what one run writes.
	maxLogBytes = 10 << 20

	// quotedLogLines and quotedLogBytes bound how much of a log an error message quotes: PostgreSQL and Temporal say why they
	// gave up within their last few lines, and some of Temporal's are long.
	quotedLogLines = 12
	quotedLogBytes = 8 << 10
)

// openLog opens the log for appending and returns where the new output will begin. A log over maxLogBytes is first renamed to
// path.1, in the place of an older one.
func openLog(path string) (*os.File, int64, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, 0, err
	}
	switch info, err := os.Stat(path); {
	case err == nil && info.Size() > maxLogBytes:
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, 0, err
		}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, 0, err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err != nil {
		_ = file.Close()
		return nil, 0, err
	}
	return file, info.Size(), nil
}

// quoteLog returns the last lines that the log has gained since start, introduced and indented so that it continues an error
// message.
func quoteLog(path string, start int64) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return ""
	}
	start = max(start, info.Size()-quotedLogBytes)
	text, err := io.ReadAll(io.NewSectionReader(file, start, info.Size()-start))
	text = bytes.TrimSpace(text)
	if err != nil || len(text) == 0 {
		return fmt.Sprintf("; it wrote nothing to %s", path)
	}
	lines := strings.Split(string(text), "\n")
	lines = lines[max(0, len(lines)-quotedLogLines):]
	return fmt.Sprintf("; the end of %s:\n\t%s", path, strings.Join(lines, "\n\t"))
}
