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
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"go.n16f.net/thumbhash"

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

// WriteRendering sends the thumbnails and the placeholder to the worker, as the
// answer to a source.
func WriteRendering(w io.Writer, r photo.Rendering) error {
	payload := []byte{byte(len(r.Thumbnails))}
	for _, t := range r.Thumbnails {
		payload = binary.BigEndian.AppendUint16(payload, uint16(t.Size.Width))
		payload = binary.BigEndian.AppendUint16(payload, uint16(t.Size.Height))
		payload = binary.BigEndian.AppendUint32(payload, uint32(len(t.Bytes)))
		payload = append(payload, t.Bytes...)
	}
	payload = append(append(payload, byte(len(r.Placeholder))), r.Placeholder...)
	return write(w, kindRendering, payload)
}

// codes are the failure codes that a render process may report. A frame holds
// the index.
var codes = []photo.Code{photo.UnsupportedImage, photo.CorruptImage, photo.ImageTooLarge, photo.Internal}

// WriteFailure sends a failure to the worker, as the answer to a source. A code
// that a render process may not report becomes Internal.
func WriteFailure(w io.Writer, f *photo.Failure) error {
	code := slices.Index(codes, f.Code)
	if code < 0 {
		code = slices.Index(codes, photo.Internal)
	}
	return write(w, kindFailure, append([]byte{byte(code)}, Sanitize(f.Message, maxMessage)...))
}

// ReadAnswer reads the answer to a source: a rendering, or a failure. The error
// means that the answer was invalid or did not arrive.
func ReadAnswer(r io.Reader, o Options) (photo.Rendering, *photo.Failure, error) {
	kind, n, err := readAnyHeader(r)
	if err != nil {
		return photo.Rendering{}, nil, noEOF(err)
	}
	switch kind {
	case kindRendering:
		rendering, err := readRendering(r, n, o)
		return rendering, nil, err
	case kindFailure:
		failure, err := readFailure(r, n)
		return photo.Rendering{}, failure, err
	default:
		return photo.Rendering{}, nil, fmt.Errorf("a frame of kind %#x is not an answer", kind)
	}
}

func readFailure(r io.Reader, n uint32) (*photo.Failure, error) {
	if n < 1 || n > 1+maxMessage {
		return nil, fmt.Errorf("a failure of %d bytes is not between 1 and %d", n, 1+maxMessage)
	}
	payload := make([]byte, n)
	if err := readFull(r, payload); err != nil {
		return nil, err
	}
	if int(payload[0]) >= len(codes) {
		return nil, fmt.Errorf("%d is not the number of a failure code", payload[0])
	}
	return &photo.Failure{Code: codes[payload[0]], Message: Sanitize(string(payload[1:]), maxMessage)}, nil
}

func readRendering(r io.Reader, total uint32, o Options) (made photo.Rendering, err error) {
	limited := &io.LimitedReader{R: r, N: int64(total)}
	if made.Thumbnails, err = readThumbnails(limited, o); err != nil {
		return photo.Rendering{}, err
	}
	if made.Placeholder, err = readPlaceholder(limited); err != nil {
		return photo.Rendering{}, err
	}
	if limited.N != 0 {
		return photo.Rendering{}, fmt.Errorf("%d bytes too many after the placeholder", limited.N)
	}
	return made, nil
}

// readPlaceholder reads a ThumbHash, which programs of clients decode.
func readPlaceholder(r io.Reader) ([]byte, error) {
	var length [1]byte
	if err := readFull(r, length[:]); err != nil {
		return nil, err
	}
	if length[0] > photo.MaxPlaceholder {
		return nil, fmt.Errorf("a placeholder of %d bytes is over the limit of %d", length[0], photo.MaxPlaceholder)
	}
	hash := make([]byte, length[0])
	if err := readFull(r, hash); err != nil {
		return nil, err
	}
	if err := new(thumbhash.Hash).Decode(hash, &thumbhash.DecodingCfg{}); err != nil {
		return nil, fmt.Errorf("the placeholder %x is no ThumbHash", hash)
	}
	return hash, nil
}

func readThumbnails(r io.Reader, o Options) ([]photo.EncodedThumbnail, error) {
	var count [1]byte
	if err := readFull(r, count[:]); err != nil {
		return nil, err
	}
	if count[0] < 1 || int(count[0]) > len(o.Boxes) {
		return nil, fmt.Errorf("%d thumbnails for %d boxes", count[0], len(o.Boxes))
	}
	var thumbnails []photo.EncodedThumbnail
	for range count[0] {
		t, err := readThumbnail(r, o)
		if err != nil {
			return nil, err
		}
		for _, other := range thumbnails {
			if other.Size == t.Size {
				return nil, fmt.Errorf("two thumbnails of %s", t.Size)
			}
		}
		thumbnails = append(thumbnails, t)
	}
	return thumbnails, nil
}

func readThumbnail(r io.Reader, o Options) (photo.EncodedThumbnail, error) {
	var head [8]byte
	if err := readFull(r, head[:]); err != nil {
		return photo.EncodedThumbnail{}, err
	}
	size := photo.Size{Width: int(binary.BigEndian.Uint16(head[:])), Height: int(binary.BigEndian.Uint16(head[2:]))}
	if size.Width < 1 || size.Height < 1 {
		return photo.EncodedThumbnail{}, fmt.Errorf("a thumbnail of %s is empty", size)
	}
	if !slices.ContainsFunc(o.Boxes, func(box photo.Box) bool { return box.Admits(size) }) {
		return photo.EncodedThumbnail{}, fmt.Errorf("a thumbnail of %s fits into none of the boxes", size)
	}
	n := int64(binary.BigEndian.Uint32(head[4:]))
	if n > maxEncoded(size) {
		return photo.EncodedThumbnail{}, fmt.Errorf("a thumbnail of %s with %d bytes is over the limit of %d", size, n, maxEncoded(size))
	}
	// The claimed length reserves at most 1 MiB; the buffer grows beyond that
	// only with the bytes that arrive.
	content := bytes.NewBuffer(make([]byte, 0, min(n, 1<<20)))
	if _, err := io.CopyN(content, r, n); err != nil {
		return photo.EncodedThumbnail{}, noEOF(err)
	}
	if !isFormat(content.Bytes(), o.Format) {
		return photo.EncodedThumbnail{}, fmt.Errorf("a thumbnail does not begin like a %s file", o.Format)
	}
	return photo.EncodedThumbnail{Size: size, Bytes: content.Bytes()}, nil
}

// maxEncoded returns an upper bound in bytes on a thumbnail of the size in any
// format: without compression it has 4 bytes for each pixel.
func maxEncoded(s photo.Size) int64 { return 5*int64(s.Width)*int64(s.Height) + 64<<10 }

// isFormat reports whether the content has the format's signature. The API
// serves it with the format's media type.
func isFormat(content []byte, f photo.Format) bool {
	at := func(offset int, signature string) bool {
		return len(content) >= offset+len(signature) && string(content[offset:offset+len(signature)]) == signature
	}
	switch f {
	case photo.WebP:
		return at(0, "RIFF") && at(8, "WEBP")
	case photo.AVIF:
		return at(4, "ftypavif")
	case photo.PNG:
		return at(0, "\x89PNG\r\n\x1a\n")
	default:
		return at(0, "\xff\xd8\xff")
	}
}

// Sanitize returns the text as one line of printable ASCII: other bytes become
// "?", and a text of more than limit bytes is cut to end in "...". The result
// is safe as data, such as a field of a log line or a JSON string: it cannot
// forge a line, control a terminal or hide characters.
func Sanitize(text string, limit int) string {
	clean := []byte(text)
	if len(clean) > limit {
		clean = append(clean[:limit-3:limit-3], "..."...)
	}
	for i, b := range clean {
		if b < ' ' || b > '~' {
			clean[i] = '?'
		}
	}
	return string(clean)
}

func header(kind byte, n int) []byte {
	return binary.BigEndian.AppendUint32([]byte{kind}, uint32(n))
}

func write(w io.Writer, kind byte, payload []byte) error {
	_, err := w.Write(append(header(kind, len(payload)), payload...))
	return err
}

func writeJSON(w io.Writer, kind byte, v any) error {
	payload, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return write(w, kind, payload)
}

func readJSON(r io.Reader, kind byte, v any) error {
	n, err := readHeader(r, kind, maxControl)
	if err != nil {
		return noEOF(err)
	}
	payload := make([]byte, n)
	if err := readFull(r, payload); err != nil {
		return err
	}
	return json.Unmarshal(payload, v)
}

func readAnyHeader(r io.Reader) (kind byte, n uint32, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, 0, err
	}
	return head[0], binary.BigEndian.Uint32(head[1:]), nil
}

// readHeader reads the header of a frame of the wanted kind and at most limit
// bytes. It returns io.EOF when the pipe is closed between frames.
func readHeader(r io.Reader, want byte, limit int) (int, error) {
	kind, n, err := readAnyHeader(r)
	if err != nil {
		return 0, err
	}
	if kind != want {
		return 0, fmt.Errorf("a frame of kind %#x instead of %#x", kind, want)
	}
	if uint64(n) > uint64(limit) {
		return 0, fmt.Errorf("a frame of %d bytes is over the limit of %d", n, limit)
	}
	return int(n), nil
}

func readFull(r io.Reader, buf []byte) error {
	_, err := io.ReadFull(r, buf)
	return noEOF(err)
}

// noEOF turns io.EOF into io.ErrUnexpectedEOF, for the middle of a frame.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
