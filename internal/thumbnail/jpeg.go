package thumbnail

import "encoding/binary"

// jpegFrame is the header of a JPEG's frame.
type jpegFrame struct {
	marker     byte // SOF0 is 0xc0
	precision  int  // bits per sample
	width      int
	height     int
	components []jpegComponent
	scanned    int // components in the first scan; 0 if there is none
}

// jpegComponent is the sampling of a component: its samples in the smallest
// block that all components share.
type jpegComponent struct{ horizontal, vertical int }

// readJPEGFrame reads the segments up to the first scan. It returns false if
// no frame precedes that.
func readJPEGFrame(source []byte) (f jpegFrame, found bool) {
	for rest := source[2:]; len(rest) >= 4; {
		if rest[0] != 0xff || rest[1] == 0xff || rest[1] == 0 { // padding, or bytes that libjpeg skips
			rest = rest[1:]
			continue
		}
		marker := rest[1]
		if marker == 0x01 || marker >= 0xd0 && marker <= 0xd8 { // without a length
			rest = rest[2:]
			continue
		}
		size := int(binary.BigEndian.Uint16(rest[2:]))
		if size < 2 || len(rest) < 2+size {
			return f, found
		}
		body := rest[4 : 2+size]
		rest = rest[2+size:]
		switch {
		case marker == 0xda && len(body) > 0:
			f.scanned = int(body[0])
			return f, found
		case isFrameMarker(marker) && len(body) >= 6 && len(body) >= 6+3*int(body[5]):
			f = jpegFrame{
				marker:    marker,
				precision: int(body[0]),
				height:    int(binary.BigEndian.Uint16(body[1:])),
				width:     int(binary.BigEndian.Uint16(body[3:])),
			}
			for i := range int(body[5]) {
				sampling := body[6+3*i+1]
				f.components = append(f.components, jpegComponent{int(sampling >> 4), int(sampling & 15)})
			}
			found = true
		}
	}
	return f, found
}

// isFrameMarker reports whether the marker begins a frame: SOF0 to SOF15, which
// have gaps, or the SOF55 of JPEG-LS.
func isFrameMarker(m byte) bool {
	return m >= 0xc0 && m <= 0xcf && m != 0xc4 && m != 0xc8 && m != 0xcc || m == 0xf7
}

// maxSampling returns the largest sampling on each axis.
func (f jpegFrame) maxSampling() (m jpegComponent) {
	for _, c := range f.components {
		m.horizontal, m.vertical = max(m.horizontal, c.horizontal), max(m.vertical, c.vertical)
	}
	return m
}

// hasSeveralScans reports whether a later scan has more data of the same
// pixels: the frame is progressive, or its first scan lacks a component.
func (f jpegFrame) hasSeveralScans() bool {
	return f.marker == 0xc2 || f.marker == 0xca || f.scanned < len(f.components)
}

// samples returns the number of samples of all components.
func (f jpegFrame) samples() (n int64) {
	m := f.maxSampling()
	for _, c := range f.components {
		n += int64(f.width) * int64(f.height) * int64(c.horizontal*c.vertical) / max(1, int64(m.horizontal*m.vertical))
	}
	return n
}

// hasFractionalSampling reports whether pixels per sample of a component are no
// whole number.
func (f jpegFrame) hasFractionalSampling() bool {
	m := f.maxSampling()
	for _, c := range f.components {
		if c.horizontal == 0 || c.vertical == 0 || m.horizontal%c.horizontal != 0 || m.vertical%c.vertical != 0 {
			return true
		}
	}
	return false
}
