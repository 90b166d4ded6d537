// Package protocol is what a worker and its renderer, a process of its own, say
// to each other through two pipes.
//
//	worker                          renderer
//	  ──── setup ─────────────────────▶   once: what to make, and how much memory there is
//	  ◀─────────────────── hello ─────    once: the sandbox is closed, and this is what it is made of
//	  ──── source ────────────────────▶   one picture …
//	  ◀──── thumbnails | failure ─────    … one answer; and so on until the pipe closes
//
// A frame is one byte that names its kind, the length of what follows as four
// bytes, big-endian, and so many bytes.
//
// The worker believes the hello, which is said before the renderer has seen a
// byte of a picture. It believes nothing after that: what reads a stranger's
// picture may have become the stranger's. An answer therefore has a bound for
// each length in it, known beforehand from what was asked for; an answer that
// steps over one, or that holds anything that cannot be, is an error, and nothing
// of it is used.
package protocol

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// Version is the protocol's. Worker and renderer are built together; that they
// are of one build is checked because they are two files.
const Version = 2

// ExitOutOfMemory is the renderer's exit code when it was refused memory.
const ExitOutOfMemory = 121

// The kinds of frames.
const (
	kindSetup      = 'S'
	kindHello      = 'H'
	kindSource     = 'P'
	kindThumbnails = 'T'
	kindFailure    = 'F'
)

// Bounds of frames.
const (
	maxControl = 64 << 10 // of setup and hello: some hundred bytes as a rule
	maxMessage = 300      // of a failure's message; the longest honest one has half of it

	// MaxSource is the largest source, in bytes. SOURCE_MAX_BYTES cannot be
	// more.
	MaxSource = 1 << 31
)

// Options say which thumbnails to make, and of which sources to refuse to. They
// are thumbnail.Options, field for field, for those who must not load libvips;
// the compiler holds the two against each other.
type Options struct {
	Boxes     []photo.Size // required
	Format    photo.Format // defaults to JPEG
	Quality   int          // defaults to 80
	MaxPixels int64        // defaults to 100 million
	MaxFrames int          // defaults to 1000
}

// Setup is what a renderer is told at its start.
type Setup struct {
	Options   Options
	MaxMemory int64 // bytes that the renderer may have; 0 is no limit
}

// Hello is a renderer's first word.
type Hello struct {
	Version int
	Sandbox Status
}

// Status says what of the sandbox is in force. A measure that is not says why, in
// words.
type Status struct {
	Seccomp    string `json:"seccomp"`    // "on"
	Landlock   string `json:"landlock"`   // such as "ABI 7"
	Namespaces string `json:"namespaces"` // such as "net, ipc, uts"
	UID        int    `json:"uid"`        // which the renderer runs as
	NoNewPrivs bool   `json:"no_new_privs"`
	MaxMemory  int64  `json:"max_memory"` // bytes; 0 is no limit
}

// WriteSetup is said by the worker.
func WriteSetup(w io.Writer, s Setup) error { return writeJSON(w, kindSetup, s) }

// ReadSetup is heard by the renderer.
func ReadSetup(r io.Reader) (s Setup, err error) { return s, readJSON(r, kindSetup, &s) }

// WriteHello is said by the renderer.
func WriteHello(w io.Writer, h Hello) error { return writeJSON(w, kindHello, h) }

// ReadHello is heard by the worker.
func ReadHello(r io.Reader) (h Hello, err error) {
	if err := readJSON(r, kindHello, &h); err != nil {
		return h, err
	}
	if h.Version != Version {
		return h, fmt.Errorf("it speaks version %d of the protocol, not %d: it is of another build", h.Version, Version)
	}
	h.Sandbox.Seccomp, h.Sandbox.Landlock = Sanitize(h.Sandbox.Seccomp, maxMessage), Sanitize(h.Sandbox.Landlock, maxMessage)
	return h, nil
}

// WriteSource is said by the worker: the size bytes that the reader gives. The
// error is io.ErrUnexpectedEOF if it gives fewer; then the frame is half-said.
func WriteSource(w io.Writer, source io.Reader, size int64) error {
	if size > MaxSource {
		return fmt.Errorf("a source of %d bytes is over the limit of %d", size, int64(MaxSource))
	}
	if _, err := w.Write(header(kindSource, int(size))); err != nil {
		return err
	}
	buffer := sourceBuffers.Get().(*[sourceBuffer]byte)
	defer sourceBuffers.Put(buffer)
	// Not by the reader's or the writer's own way to copy, which gives an error
	// that does not tell reading from writing.
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{io.LimitReader(source, size)}, buffer[:])
	if err == nil && n < size {
		err = io.EOF
	}
	return noEOF(err)
}

// sourceBuffer is how much of a source is sent at a time: a good part of what a
// pipe holds.
const sourceBuffer = 256 << 10

var sourceBuffers = sync.Pool{New: func() any { return new([sourceBuffer]byte) }}

// ReadSource is heard by the renderer. It reads into buf when the source fits
// there. io.EOF says that there will be no more.
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

// WriteThumbnails is said by the renderer.
func WriteThumbnails(w io.Writer, pictures []photo.Picture) error {
	payload := []byte{byte(len(pictures))}
	for _, p := range pictures {
		payload = binary.BigEndian.AppendUint16(payload, uint16(p.Size.Width))
		payload = binary.BigEndian.AppendUint16(payload, uint16(p.Size.Height))
		payload = binary.BigEndian.AppendUint32(payload, uint32(len(p.Bytes)))
		payload = append(payload, p.Bytes...)
	}
	return write(w, kindThumbnails, payload)
}

// codes are the failures that a renderer may report, by the byte that stands
// for them.
var codes = []photo.Code{photo.UnsupportedImage, photo.CorruptImage, photo.ImageTooLarge, photo.Internal}

// WriteFailure is said by the renderer. A code that is not a renderer's to
// report becomes Internal.
func WriteFailure(w io.Writer, f *photo.Failure) error {
	code := slices.Index(codes, f.Code)
	if code < 0 {
		code = slices.Index(codes, photo.Internal)
	}
	return write(w, kindFailure, append([]byte{byte(code)}, Sanitize(f.Message, maxMessage)...))
}

// ReadAnswer is heard by the worker: the thumbnails, or a failure. The third
// result says that the answer makes no sense, or did not come.
func ReadAnswer(r io.Reader, o Options) ([]photo.Picture, *photo.Failure, error) {
	kind, n, err := readAnyHeader(r)
	if err != nil {
		return nil, nil, noEOF(err)
	}
	switch kind {
	case kindThumbnails:
		pictures, err := readThumbnails(r, n, o)
		return pictures, nil, err
	case kindFailure:
		failure, err := readFailure(r, n)
		return nil, failure, err
	default:
		return nil, nil, fmt.Errorf("a frame of kind %#x is no answer", kind)
	}
}

func readFailure(r io.Reader, n uint32) (*photo.Failure, error) {
	if n < 1 || n > 1+maxMessage {
		return nil, fmt.Errorf("a failure of %d bytes cannot be", n)
	}
	payload := make([]byte, n)
	if err := readFull(r, payload); err != nil {
		return nil, err
	}
	if int(payload[0]) >= len(codes) {
		return nil, fmt.Errorf("%d is no code of a failure", payload[0])
	}
	return &photo.Failure{Code: codes[payload[0]], Message: Sanitize(string(payload[1:]), maxMessage)}, nil
}

func readThumbnails(r io.Reader, total uint32, o Options) ([]photo.Picture, error) {
	limited := &io.LimitedReader{R: r, N: int64(total)} // what it says, it must hold to
	var count [1]byte
	if err := readFull(limited, count[:]); err != nil {
		return nil, err
	}
	if count[0] < 1 || int(count[0]) > len(o.Boxes) {
		return nil, fmt.Errorf("%d thumbnails for %d boxes", count[0], len(o.Boxes))
	}
	var pictures []photo.Picture
	for range count[0] {
		p, err := readPicture(limited, o)
		if err != nil {
			return nil, err
		}
		for _, other := range pictures {
			if other.Size == p.Size {
				return nil, fmt.Errorf("two thumbnails of %s", p.Size)
			}
		}
		pictures = append(pictures, p)
	}
	if limited.N != 0 {
		return nil, fmt.Errorf("%d bytes too many after the thumbnails", limited.N)
	}
	return pictures, nil
}

func readPicture(r io.Reader, o Options) (photo.Picture, error) {
	var head [8]byte
	if err := readFull(r, head[:]); err != nil {
		return photo.Picture{}, err
	}
	size := photo.Size{Width: int(binary.BigEndian.Uint16(head[:])), Height: int(binary.BigEndian.Uint16(head[2:]))}
	if size.Width < 1 || size.Height < 1 {
		return photo.Picture{}, fmt.Errorf("a thumbnail of %s cannot be", size)
	}
	if !slices.ContainsFunc(o.Boxes, func(box photo.Size) bool { return size.Width <= box.Width && size.Height <= box.Height }) {
		return photo.Picture{}, fmt.Errorf("a thumbnail of %s fits into none of the boxes", size)
	}
	n := int64(binary.BigEndian.Uint32(head[4:]))
	if n > maxEncoded(size) {
		return photo.Picture{}, fmt.Errorf("a thumbnail of %s cannot have %d bytes", size, n)
	}
	// No more is reserved at once than a usual thumbnail needs: for one of
	// gigabytes, the bytes have to come.
	content := bytes.NewBuffer(make([]byte, 0, min(n, 1<<20)))
	if _, err := io.CopyN(content, r, n); err != nil {
		return photo.Picture{}, noEOF(err)
	}
	if !isFormat(content.Bytes(), o.Format) {
		return photo.Picture{}, fmt.Errorf("a thumbnail is no %s", o.Format)
	}
	return photo.Picture{Size: size, Bytes: content.Bytes()}, nil
}

// maxEncoded is more than any thumbnail of the size can have in any format: an
// uncompressed one has 4 bytes for each pixel.
func maxEncoded(s photo.Size) int64 { return 5*int64(s.Width)*int64(s.Height) + 64<<10 }

// isFormat tells whether the content begins as the format's files do. The API
// serves it as that.
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

// Sanitize makes one line of printable ASCII out of what may be anything: bytes
// that are none become "?", and what is too long ends in "...". That is all that
// is needed where the text is data, as in a log's field or a JSON string; it
// forges no line, colours no terminal and hides no letter.
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

// readHeader gives io.EOF itself where nothing comes any more.
func readHeader(r io.Reader, want byte, limit int) (int, error) {
	kind, n, err := readAnyHeader(r)
	if err != nil {
		return 0, err
	}
	if kind != want {
		return 0, fmt.Errorf("a frame of kind %#x where %#x was due", kind, want)
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

// noEOF is for where an end is too early.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
