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

	"github.com/photo-processor/photo-processor/internal/mediatype"
)

// Result describes the bytes that a fetch wrote.
type Result struct {
	Bytes     int64  // how many; may be 0, which the renderer rejects
	SHA256    string // lower-case hexadecimal
	MediaType string // detected from the bytes, such as "image/jpeg", without parameters
}

// WriteError is an error of the writer that Fetch was given.
type WriteError struct {
	Err error
}

func (e *WriteError) Error() string { return "write the source: " + e.Err.Error() }
func (e *WriteError) Unwrap() error { return e.Err }

const (
	sniffBytes = 3072      // of the start of a photo: as many as mediatype.Detect reads
	copyBytes  = 256 << 10 // of each copy buffer
)

var buffers = sync.Pool{New: func() any { return new([copyBytes]byte) }}

// copyBody writes all of body to w, and updates written after each write. An
// error of w is returned as a WriteError.
func copyBody(w io.Writer, body io.Reader, written *atomic.Int64) (Result, error) {
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
			taken, writeErr := w.Write(chunk)
			written.Add(int64(max(0, min(taken, n))))
			if writeErr == nil && taken != n {
				writeErr = io.ErrShortWrite
			}
			if writeErr != nil {
				return Result{}, &WriteError{writeErr}
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return Result{}, err
		}
	}
	return Result{
		Bytes:     written.Load(),
		SHA256:    hex.EncodeToString(digest.Sum(nil)),
		MediaType: mediatype.Detect(head),
	}, nil
}

// errTooLarge is the error of a maxBytesReader whose limit is exceeded.
var errTooLarge = errors.New("more bytes than allowed")

// maxBytesReader reads at most remaining bytes. Unlike an io.LimitedReader it
// fails with errTooLarge if there are more.
type maxBytesReader struct {
	r         io.Reader
	remaining int64
}

func (m *maxBytesReader) Read(p []byte) (int, error) {
	if int64(len(p))-1 > m.remaining {
		p = p[:m.remaining+1]
	}
	n, err := m.r.Read(p)
	if int64(n) > m.remaining {
		n, err = int(m.remaining), errTooLarge
	}
	m.remaining -= int64(n)
	return n, err
}

// errInvalidGzip is wrapped by errors of bodies that are not gzip although the
// header says so, or are damaged.
var errInvalidGzip = errors.New("invalid gzip")

// gzipBody decompresses a body. It reads the start of the body at the first
// Read. It returns no bytes for an empty body, and a picture that is labeled as
// gzip but is not compressed unchanged.
type gzipBody struct {
	body    io.Reader
	decoded io.Reader // nil before the first Read
}

func (b *gzipBody) Read(p []byte) (int, error) {
	if b.decoded == nil {
		body := bufio.NewReaderSize(b.body, sniffBytes)
		head, err := body.Peek(sniffBytes) // fails if the body is shorter
		if len(head) == 0 {
			return 0, err // io.EOF: an empty body is an empty photo
		}
		if strings.HasPrefix(mediatype.Detect(head), "image/") {
			b.decoded = body
		} else if b.decoded, err = gzip.NewReader(body); err != nil {
			b.decoded = nil
			return 0, wrapGzipError(err)
		}
	}
	n, err := b.decoded.Read(p)
	return n, wrapGzipError(err)
}

// wrapGzipError wraps the decompressor's errors with errInvalidGzip, and
// returns the network's unchanged.
func wrapGzipError(err error) error {
	_, corrupt := errors.AsType[flate.CorruptInputError](err)
	if corrupt || errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) {
		return fmt.Errorf("%w: %w", errInvalidGzip, err)
	}
	return err
}

// decodeBody returns the body without its gzip encoding. The limit, in bytes,
// holds before decompression, against gzip that decompresses to nothing for
// ever, and after it, against decompression bombs.
//
// Requests accept no encoding, but some buckets store compressed photos and
// send them as they are. Other encodings than gzip stay: the renderer rejects
// encoded bytes, and accepts a plain photo with a wrong header.
func decodeBody(body io.Reader, header http.Header, limit int64) io.Reader {
	limited := &maxBytesReader{body, limit}
	switch strings.ToLower(strings.Join(header.Values("Content-Encoding"), ",")) {
	case "gzip", "x-gzip":
		return &maxBytesReader{&gzipBody{body: limited}, limit}
	default:
		return limited
	}
}
