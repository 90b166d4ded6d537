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

// Bounds on what a process may have us log. A crash of the Go runtime has its
// reason in the first lines.
const (
	maxLine            = 400 // bytes
	maxLinesPerPicture = 20
	maxBytesPerPicture = 1 << 20 // a process that says more is ended
)

// lineLogger logs what a process writes to stderr, which may be anything: as
// lines of printable ASCII, not too long and not too many.
type lineLogger struct {
	log *slog.Logger

	mu     sync.Mutex
	about  context.Context // of the last picture, whose lines these are
	lines  int             // since the last picture began
	bytes  int             // likewise
	last   string
	memory bool // the Go runtime was refused memory
}

func newLineLogger(log *slog.Logger) *lineLogger {
	return &lineLogger{log: log, about: context.Background()}
}

// readFrom logs until there is no more, or far too much; it tells which.
func (l *lineLogger) readFrom(r io.Reader) (tooMuch bool) {
	lines := bufio.NewReaderSize(r, 4096)
	for cut := false; ; {
		line, more, err := lines.ReadLine()
		if err != nil {
			return false
		}
		if !cut { // else it is the rest of a line that was too long
			l.line(string(line))
		}
		cut = more
		if l.count(len(line)) > maxBytesPerPicture {
			l.log.Error("a renderer does not stop talking; it is ended")
			return true
		}
	}
}

func (l *lineLogger) line(text string) {
	text = protocol.Sanitize(strings.TrimRight(text, "\r"), maxLine)
	l.mu.Lock()
	l.lines++
	lines, about := l.lines, l.about
	if lines <= maxLinesPerPicture {
		l.last = text
		for _, words := range []string{"out of memory", "cannot allocate memory", "failed to create new OS thread"} {
			l.memory = l.memory || strings.Contains(text, words)
		}
	}
	l.mu.Unlock()
	switch {
	case lines <= maxLinesPerPicture:
		l.log.WarnContext(about, "a renderer says", "line", text)
	case lines == maxLinesPerPicture+1:
		l.log.WarnContext(about, "a renderer says more than is logged")
	}
}

func (l *lineLogger) count(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bytes += n
	return l.bytes
}

// nextPicture lets the process say some more. What the log shows of the context
// is shown with it.
func (l *lineLogger) nextPicture(about context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines, l.bytes, l.about = 0, 0, about
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
