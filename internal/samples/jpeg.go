package samples

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"image"
	"image/jpeg"
	"io"
)

// What JPEG and Handler draw at most. A picture of 24 megapixels takes about
// 200 MB while it is drawn.
const (
	MaxSide   = 12_000
	MaxPixels = 24_000_000
)

// JPEG writes Picture(seed, width, height) as a JPEG whose EXIF data has the
// orientation, 1 to 8. Width and height are those of the upright picture; its
// pixels are stored turned, such that they come out upright where the
// orientation is heeded. The quality is that of image/jpeg, 1 to 100.
//
// One build gives the same bytes every time; another Go release or processor may
// round differently.
func JPEG(w io.Writer, seed uint64, width, height, quality, orientation int) error {
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
	// Should these two fail, Flush says so in the end.
	_, _ = out.WriteString(start)
	_, _ = out.Write(exif(orientation))
	err := jpeg.Encode(&skipper{w: out, skip: len(start)}, turned(picture(seed, width, height), orientation), &jpeg.Options{Quality: quality})
	if err != nil {
		return err
	}
	return out.Flush()
}

// skipper leaves out the first bytes of what is written.
type skipper struct {
	w    io.Writer
	skip int
}

func (s *skipper) Write(p []byte) (int, error) {
	skipped := min(s.skip, len(p))
	s.skip -= skipped
	n, err := s.w.Write(p[skipped:])
	return skipped + n, err
}

// exif gives a JPEG's APP1 segment with nothing but the orientation.
func exif(orientation int) []byte {
	const (
		tagOrientation = 0x0112
		typeShort      = 3
	)
	segment := []byte("\xff\xe1\x00\x00Exif\x00\x00" + // marker, length (below), identifier
		"MM\x00\x2a\x00\x00\x00\x08" + // TIFF, big-endian; its first directory comes next
		"\x00\x01") // with one entry
	segment = binary.BigEndian.AppendUint16(segment, tagOrientation)
	segment = binary.BigEndian.AppendUint16(segment, typeShort)
	segment = binary.BigEndian.AppendUint32(segment, 1) // how many of them
	segment = binary.BigEndian.AppendUint16(segment, uint16(orientation))
	segment = append(segment, 0, 0)                     // fills the entry up
	segment = binary.BigEndian.AppendUint32(segment, 0) // no further directory
	binary.BigEndian.PutUint16(segment[2:], uint16(len(segment)-2))
	return segment
}

// turned gives the pixels of an upright picture as a camera held in an orientation
// stores them.
func turned(upright *image.RGBA, orientation int) *image.RGBA {
	if orientation == 1 {
		return upright
	}
	w, h := upright.Rect.Dx(), upright.Rect.Dy()
	// Where in upright the stored picture begins, and how far it is from there to
	// the next pixel and to the next row.
	start, column, row := 0, 4, upright.Stride
	if o := orientation; o == 2 || o == 3 || o == 6 || o == 7 { // begins at the right
		start, column = start+4*(w-1), -column
	}
	if o := orientation; o == 3 || o == 4 || o == 7 || o == 8 { // begins at the bottom
		start, row = start+upright.Stride*(h-1), -row
	}
	if orientation >= 5 { // rows are columns
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
