package renderer

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"

	"github.com/photo-processor/photo-processor/internal/renderer/protocol"
)

// Bounds on the log lines of one process. The first lines of a crash of the Go
// runtime have the reason.
const (
	maxLine            = 400 // bytes; the rest of a line is dropped
	maxLinesPerPicture = 20
	maxBytesPerPicture = 1 << 20 // a process that writes more is killed
)

// lineLogger logs the stderr of a process, which injected code may control, as
// a bounded number of lines of printable ASCII.
type lineLogger struct {
	log *slog.Logger

	mu      sync.Mutex
	picture context.Context // of the current or last picture, for the log's attributes
	lines   int             // since that picture began
	bytes   int             // since that picture began
	last    string
	memory  bool // the Go runtime was refused memory
}

func newLineLogger(log *slog.Logger) *lineLogger {
	return &lineLogger{log: log, picture: context.Background()}
}

// readFrom logs lines until an error, such as the end of the pipe. It stops and
// returns true when a picture exceeds maxBytesPerPicture.
func (l *lineLogger) readFrom(r io.Reader) (tooMuch bool) {
	lines := bufio.NewReaderSize(r, 4096)
	for cut := false; ; {
		line, more, err := lines.ReadLine()
		if err != nil {
			return false
		}
		if !cut { // otherwise line is the rest of a long one
			l.line(string(line))
		}
		cut = more
		if l.count(len(line)) > maxBytesPerPicture {
			l.log.Error("a render process writes too much to stderr; it is killed", "limit", maxBytesPerPicture)
			return true
		}
	}
}

func (l *lineLogger) line(text string) {
	text = protocol.Sanitize(strings.TrimRight(text, "\r"), maxLine)
	l.mu.Lock()
	l.lines++
	lines, picture := l.lines, l.picture
	if lines <= maxLinesPerPicture {
		l.last = text
		for _, words := range []string{"out of memory", "cannot allocate memory", "failed to create new OS thread"} {
			l.memory = l.memory || strings.Contains(text, words)
		}
	}
	l.mu.Unlock()
	switch {
	case lines <= maxLinesPerPicture:
		l.log.WarnContext(picture, "stderr of a render process", "line", text)
	case lines == maxLinesPerPicture+1:
		l.log.WarnContext(picture, "stderr of a render process has too many lines; the rest is not logged")
	}
}

// count adds n bytes and returns the bytes since the picture began.
func (l *lineLogger) count(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bytes += n
	return l.bytes
}

// nextPicture resets the bounds. The lines that follow are logged with the
// attributes of the picture's context.
func (l *lineLogger) nextPicture(picture context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines, l.bytes, l.picture = 0, 0, picture
}

func (l *lineLogger) lastLine() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

func (l *lineLogger) outOfMemory() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.memory
}
