// Package protocol defines the frames that a worker and a render process
// exchange through two pipes.
//
//	worker                          render process
//	  ──── setup ─────────────────────▶   once: the thumbnails to make and the memory limit
//	  ◀─────────────────── hello ─────    once: the sandbox is entered; its measures
//	  ──── source ────────────────────▶   one picture …
//	  ◀───── rendering | failure ─────    … one answer; repeated until the pipe closes
//
// A frame is one byte for its kind, the length of its payload in four bytes,
// big-endian, and the payload.
//
// The worker trusts the hello, which the process sends before it has read a
// byte of a picture. It trusts no later frame, because a picture may have taken
// over the process. So every length in an answer has an upper bound that
// follows from the request, and an answer with an invalid value is rejected as
// a whole.
package protocol

import (
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// Version is the version of the protocol. The worker and the render program come
// from one build, but are two files, of which one may be older; the hello shows
// it.
const Version = 4

// ExitOutOfMemory is the exit code of a render process after the kernel refused
// it memory.
const ExitOutOfMemory = 121

// The kinds of frames.
const (
	kindSetup     = 'S'
	kindHello     = 'H'
	kindSource    = 'P'
	kindRendering = 'T'
	kindFailure   = 'F'
)

// Bounds of frames.
const (
	maxControl = 64 << 10 // bytes of setup and hello, which have some hundreds
	maxMessage = 300      // bytes of a failure's message; genuine ones have up to 150

	// MaxSource is the size of the largest source, 2 GiB, and the upper bound
	// of SOURCE_MAX_BYTES.
	MaxSource = 1 << 31
)

// Options choose the thumbnails to make and the limits on sources. They repeat
// thumbnail.Options, which the worker cannot import without libvips;
// conversions between the two make the compiler compare their fields.
type Options struct {
	Boxes     []photo.Box  // one for each thumbnail; required
	Format    photo.Format // of the thumbnails; defaults to JPEG
	Quality   int          // from 1 to 100; defaults to 80
	MaxPixels int64        // of a source; defaults to 250 million
	MaxMemory int64        // bytes that decoding a source may take; 0 is no limit
	MaxFrames int          // of a source; defaults to 1000
}

// Setup is the first frame to a render process.
type Setup struct {
	Options   Options
	MaxMemory int64 // limit on the render process's memory, in bytes; 0 is none
}

// Hello is the first frame from a render process, which is then ready for a
// source.
type Hello struct {
	Version int
	Sandbox Status
}

// Status lists the sandbox's measures. Where one is not in force, its text is
// the reason.
type Status struct {
	Seccomp    string `json:"seccomp"`    // "on"
	Landlock   string `json:"landlock"`   // such as "ABI 7"
	Namespaces string `json:"namespaces"` // such as "net, ipc, uts"
	UID        int    `json:"uid"`        // of the render process
	NoNewPrivs bool   `json:"no_new_privs"`
	MaxMemory  int64  `json:"max_memory"` // bytes; 0 is no limit
}

// Namespaces lists the namespaces that each process has for itself on Linux,
// besides a user namespace where the worker is not root.
const Namespaces = "net, ipc, uts"

// Missing returns the layers of the sandbox that are not in force, with the
// reasons, such as "namespaces: none: operation not permitted".
func (s Status) Missing() (missing []string) {
	for _, layer := range []struct {
		name, state string
		ok          bool
	}{
		{"seccomp", s.Seccomp, s.Seccomp == "on"},
		{"landlock", s.Landlock, strings.HasPrefix(s.Landlock, "ABI ")},
		{"namespaces", s.Namespaces, strings.HasSuffix(s.Namespaces, Namespaces)},
		{"no_new_privs", "not set", s.NoNewPrivs},
		{"user", "root", s.UID != 0},
	} {
		if !layer.ok {
			missing = append(missing, layer.name+": "+layer.state)
		}
	}
	return missing
}

// WriteSetup sends the setup to the render process.
func WriteSetup(w io.Writer, s Setup) error { return writeJSON(w, kindSetup, s) }

// ReadSetup reads the worker's setup.
func ReadSetup(r io.Reader) (s Setup, err error) { return s, readJSON(r, kindSetup, &s) }

// WriteHello sends the hello to the worker.
func WriteHello(w io.Writer, h Hello) error { return writeJSON(w, kindHello, h) }

// ReadHello reads the render process's hello. It fails if the versions differ.
func ReadHello(r io.Reader) (h Hello, err error) {
	if err := readJSON(r, kindHello, &h); err != nil {
		return h, err
	}
	if h.Version != Version {
		return h, fmt.Errorf("the render process has version %d of the protocol, not %d: it is from another build", h.Version, Version)
	}
	h.Sandbox.Seccomp, h.Sandbox.Landlock = Sanitize(h.Sandbox.Seccomp, maxMessage), Sanitize(h.Sandbox.Landlock, maxMessage)
	return h, nil
}

// WriteSource sends size bytes of the source, at most MaxSource, to the render
// process. It returns io.ErrUnexpectedEOF if the source has fewer. After an
// error the frame may be incomplete, and the pipe cannot be used again.
func WriteSource(w io.Writer, source io.Reader, size int64) error {
	if size > MaxSource {
		return fmt.Errorf("a source of %d bytes is over the limit of %d", size, int64(MaxSource))
	}
	if _, err := w.Write(header(kindSource, int(size))); err != nil {
		return err
	}
	buffer := sourceBuffers.Get().(*[sourceBuffer]byte)
	defer sourceBuffers.Put(buffer)
	// The wrappers hide WriterTo and ReaderFrom, whose errors do not show
	// whether reading or writing failed.
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{io.LimitReader(source, size)}, buffer[:])
	if err == nil && n < size {
		err = io.EOF
	}
	return noEOF(err)
}

// sourceBuffer is the length of a write in bytes, a quarter of the pipe's
// buffer.
const sourceBuffer = 256 << 10

var sourceBuffers = sync.Pool{New: func() any { return new([sourceBuffer]byte) }}

// ReadSource reads a source from the worker, into buf if its capacity suffices.
// It returns io.EOF when the worker has closed the pipe.
func ReadSource(r io.Reader, buf []byte) ([]byte, error) {
	n, err := readHeader(r, kindSource, MaxSource)
	if err != nil {
		return nil, err
	}
	if n > cap(buf) {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	return buf, readFull(r, buf)
}
