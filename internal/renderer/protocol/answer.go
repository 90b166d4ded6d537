package protocol

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"go.n16f.net/thumbhash"

	"github.com/photo-processor/photo-processor/internal/photo"
)

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
