package samples

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"image"
	"image/jpeg"
	"io"
)

// Limits of WriteJPEG and Handler, in pixels. Drawing 24 megapixels takes about
// 200 MB of memory.
const (
	MaxSide   = 12_000
	MaxPixels = 24_000_000
)

// WriteJPEG draws the landscape of a seed and writes it as a JPEG. Width and
// height, in pixels, are those of the upright picture; its pixels are stored so
// that the EXIF orientation, 1 to 8, turns them upright. The quality is that of
// image/jpeg, 1 to 100. It fails, having written nothing, if an argument is out
// of range.
//
// One build always writes the same bytes; another Go release or processor may
// round differently.
func WriteJPEG(w io.Writer, seed uint64, width, height, quality, orientation int) error {
	if width < 1 || height < 1 || width > MaxSide || height > MaxSide || width*height > MaxPixels {
		return fmt.Errorf("a picture of %dx%d: each side must be from 1 to %d pixels, and all from 1 to %d", width, height, MaxSide, MaxPixels)
	}
	if quality < 1 || quality > 100 {
		return fmt.Errorf("quality %d is not from 1 to 100", quality)
	}
	if orientation < 1 || orientation > 8 {
		return fmt.Errorf("orientation %d is not from 1 to 8", orientation)
	}
	out := bufio.NewWriter(w)
	const start = "\xff\xd8"
	// Flush returns the errors of these two.
	_, _ = out.WriteString(start)
	_, _ = out.Write(exifSegment(orientation))
	err := jpeg.Encode(&skipWriter{w: out, skip: len(start)}, toOrientation(drawLandscape(seed, width, height), orientation), &jpeg.Options{Quality: quality})
	if err != nil {
		return err
	}
	return out.Flush()
}

// skipWriter drops the first skip bytes and writes the rest to w.
type skipWriter struct {
	w    io.Writer
	skip int
}

func (s *skipWriter) Write(p []byte) (int, error) {
	skipped := min(s.skip, len(p))
	s.skip -= skipped
	n, err := s.w.Write(p[skipped:])
	return skipped + n, err
}

// exifSegment returns a JPEG's APP1 segment that has only the orientation.
func exifSegment(orientation int) []byte {
	const (
		tagOrientation = 0x0112
		typeShort      = 3
	)
	segment := []byte("\xff\xe1\x00\x00Exif\x00\x00" + // marker, length (below), identifier
		"MM\x00\x2a\x00\x00\x00\x08" + // TIFF header, big-endian; the first directory follows
		"\x00\x01") // with one entry
	segment = binary.BigEndian.AppendUint16(segment, tagOrientation)
	segment = binary.BigEndian.AppendUint16(segment, typeShort)
	segment = binary.BigEndian.AppendUint32(segment, 1) // number of values
	segment = binary.BigEndian.AppendUint16(segment, uint16(orientation))
	segment = append(segment, 0, 0)                     // padding of the entry
	segment = binary.BigEndian.AppendUint32(segment, 0) // no second directory
	binary.BigEndian.PutUint16(segment[2:], uint16(len(segment)-2))
	return segment
}

// toOrientation returns an upright picture's pixels in the order in which a
// camera that is held in the EXIF orientation stores them.
func toOrientation(upright *image.RGBA, orientation int) *image.RGBA {
	if orientation == 1 {
		return upright
	}
	w, h := upright.Rect.Dx(), upright.Rect.Dy()
	// The offset in upright.Pix of the stored picture's first pixel, and the
	// steps from there to its next pixel and to its next row.
	start, column, row := 0, 4, upright.Stride
	if o := orientation; o == 2 || o == 3 || o == 6 || o == 7 { // starts at the right
		start, column = start+4*(w-1), -column
	}
	if o := orientation; o == 3 || o == 4 || o == 7 || o == 8 { // starts at the bottom
		start, row = start+upright.Stride*(h-1), -row
	}
	if orientation >= 5 { // rows and columns are swapped
		w, h, column, row = h, w, row, column
	}
	stored := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		from := start + y*row
		to := stored.Pix[y*stored.Stride:][:4*w]
		for x := 0; x < len(to); x += 4 {
			copy(to[x:x+4], upright.Pix[from:from+4])
			from += column
		}
	}
	return stored
}
