package devstack

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"gopkg.in/natefinch/lumberjack.v2"
)

const (
	// A log of maxLogMiB is renamed and compressed; logBackups of these are
	// kept. Temporal's server writes up to 1 MB/s while PostgreSQL is away,
	// which compresses to a seventieth.
	maxLogMiB  = 10
	logBackups = 20

	// maxQuotedBytes bounds how much of a log an error message quotes.
	maxQuotedBytes = 4 << 10
)

// processLog is the log file of a process, which its restarts share. It is
// appended to, and bounded in size.
type processLog struct {
	file *lumberjack.Logger

	mu  sync.Mutex
	end []byte // of what was written since begin
}

func newProcessLog(path string) *processLog {
	return &processLog{file: &lumberjack.Logger{Filename: path, MaxSize: maxLogMiB, MaxBackups: logBackups, Compress: true}}
}

// begin creates the file, and forgets what an earlier process has written.
func (l *processLog) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end = nil
	_, _ = l.file.Write(nil)
}

// Write never fails: an error would break the pipe of the process, which must
// not end because a disk is full. What cannot be written is lost.
func (l *processLog) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end = append(l.end, text[max(0, len(text)-maxQuotedBytes):]...)
	l.end = l.end[max(0, len(l.end)-maxQuotedBytes):]
	_, _ = l.file.Write(text)
	return len(text), nil
}

func (l *processLog) close() { _ = l.file.Close() }

// quote returns the end of what the process has written, to follow an error
// message.
func (l *processLog) quote() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return quoteLog(l.file.Filename, l.end)
}

// createSupervisorLog creates the log of a supervisor, which outlives this
// process and so needs a file. The log of the supervisor before is kept, with
// the suffix ".1".
func createSupervisorLog(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := os.Rename(path, path+".1"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
}

// quoteLog quotes the end of a log, to follow an error message.
func quoteLog(path string, text []byte) string {
	text = bytes.TrimSpace(text[max(0, len(text)-maxQuotedBytes):])
	if len(text) == 0 {
		return fmt.Sprintf("; it wrote nothing to %s", path)
	}
	return fmt.Sprintf("; the end of %s:\n\t%s", path, strings.ReplaceAll(string(text), "\n", "\n\t"))
}
