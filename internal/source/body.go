package source

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/gabriel-vasile/mimetype"
)

// Fetched is what a fetch learnt about the bytes that it wrote.
type Fetched struct {
	Bytes     int64  // their number; 0 is possible, and for the renderer to judge
	SHA256    string // their digest, lower-case hexadecimal
	MediaType string // what the bytes themselves say they are, such as "image/jpeg", without parameters
}

// WriteError tells that the writer failed, not the source.
type WriteError struct {
	Err error
}

func (e *WriteError) Error() string { return "write the source: " + e.Err.Error() }
func (e *WriteError) Unwrap() error { return e.Err }

// sniffBytes is how much of a photo mimetype looks at.
const sniffBytes = 3072

// copyBytes is how much of a photo is read at a time.
const copyBytes = 256 << 10

var buffers = sync.Pool{New: func() any { return new([copyBytes]byte) }}

// copyBody writes all of body, counting the bytes as it goes.
func copyBody(w io.Writer, body io.Reader, count *atomic.Int64) (Fetched, error) {
	buffer := buffers.Get().(*[copyBytes]byte)
	defer buffers.Put(buffer)

	digest := sha256.New()
	head := make([]byte, 0, sniffBytes)
	for {
		n, err := body.Read(buffer[:])
		if n > 0 {
			chunk := buffer[:n]
			digest.Write(chunk)
			head = append(head, chunk[:min(n, cap(head)-len(head))]...)
			written, werr := w.Write(chunk)
			count.Add(int64(max(0, min(written, n))))
			if werr == nil && written != n {
				werr = io.ErrShortWrite
			}
			if werr != nil {
				return Fetched{}, &WriteError{werr}
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return Fetched{}, err
		}
	}
	mediaType, _, _ := strings.Cut(mimetype.Detect(head).String(), ";")
	return Fetched{
		Bytes:     count.Load(),
		SHA256:    hex.EncodeToString(digest.Sum(nil)),
		MediaType: mediaType,
	}, nil
}

// errTooLarge is what a limitedReader says of one byte more than the limit.
var errTooLarge = errors.New("more bytes than allowed")

// limitedReader is an io.LimitedReader whose limit is an error, not an end.
type limitedReader struct {
	r    io.Reader
	left int64
}

func (l *limitedReader) Read(p []byte) (int, error) {
	if int64(len(p))-1 > l.left {
		p = p[:l.left+1]
	}
	n, err := l.r.Read(p)
	if int64(n) > l.left {
		n, err = int(l.left), errTooLarge
	}
	l.left -= int64(n)
	return n, err
}

// errBadGzip says that what was to be gzip is not, or is damaged.
var errBadGzip = errors.New("bad gzip")

// decodedReader undoes a gzip that was not asked for. Some buckets keep photos
// compressed and send them so to everyone; undoing it is a few lines. Any other
// content encoding is left in place: the bytes are no image then, which is for
// the renderer to say, and if they are one in spite of the header, all the
// better.
type decodedReader struct {
	wire io.Reader
	gzip *gzip.Reader
}

func (d *decodedReader) Read(p []byte) (n int, err error) {
	if d.gzip == nil {
		wire := bufio.NewReader(d.wire)
		if _, err := wire.Peek(1); err != nil {
			return 0, err // nothing at all is an empty photo
		}
		if d.gzip, err = gzip.NewReader(wire); err != nil {
			d.gzip = nil
			return 0, gzipError(err)
		}
	}
	n, err = d.gzip.Read(p)
	return n, gzipError(err)
}

// gzipError marks what gzip complains about, apart from what the wire does.
func gzipError(err error) error {
	_, corrupt := errors.AsType[flate.CorruptInputError](err)
	if corrupt || errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) {
		return fmt.Errorf("%w: %w", errBadGzip, err)
	}
	return err
}

// decode gives the body as the photo's own bytes, at most limit of them, from
// at most limit bytes on the wire: a bomb ends at the first limit, and gzip that
// comes to nothing for ever at the second.
func decode(body io.Reader, header http.Header, limit int64) io.Reader {
	wire := &limitedReader{body, limit}
	switch strings.ToLower(strings.Join(header.Values("Content-Encoding"), ",")) {
	case "gzip", "x-gzip":
		return &limitedReader{&decodedReader{wire: wire}, limit}
	default:
		return wire
	}
}
