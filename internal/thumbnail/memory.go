package thumbnail

import (
	"github.com/davidbyttow/govips/v2/vips"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// decodeMemory estimates the memory in bytes that decoding the source takes
// from what its header says: a value that is a little too low, or 0 for sources
// of which the decoder holds a few rows, or for which the header does not
// suffice. img is the source, opened but not decoded.
func decodeMemory(source []byte, k kind, img *vips.ImageRef) int64 {
	pixels := int64(img.Width()) * int64(img.Height())
	switch k.loader {
	case vips.ImageTypeJPEG:
		// libjpeg holds the coefficients, of 2 bytes, of a picture that comes
		// in several scans.
		const bytesPerCoefficient = 2
		f, ok := readJPEGFrame(source)
		if !ok || !f.hasSeveralScans() {
			return 0
		}
		return bytesPerCoefficient * f.samples()
	case vips.ImageTypePNG:
		const interlaceMethod = 28 // in the file
		if len(source) <= interlaceMethod || source[interlaceMethod] == 0 {
			return 0
		}
		bytesPerSample := int64(1)
		if img.BandFormat() == vips.BandFormatUshort {
			bytesPerSample = 2
		}
		return bytesPerSample * int64(img.Bands()) * pixels
	case vips.ImageTypeWEBP:
		const flags, animated = 20, 0x02 // of the extended format
		if _, ok := webpCanvas(source); ok && source[flags]&animated != 0 {
			return 4 * pixels // the canvas
		}
		return 0 // a still picture is shrunk while it is decoded
	case vips.ImageTypeGIF:
		return 5 * pixels // measured 5.8: the canvas, and the frame as RGB
	case vips.ImageTypeHEIF, vips.ImageTypeAVIF:
		return 7 * pixels // measured 7.4: planes of the codec and of libheif, and RGB
	default: // TIFF has strips or tiles
		return 0
	}
}

// coverMemory estimates the memory in bytes of the whole picture at the scaled
// size of the largest thumbnail, if that is cropped. The box does not limit
// this size: a panorama that covers a box is many times as wide as the box. A
// thumbnail that is not cropped counts 0, because its box limits its size.
func coverMemory(h header, boxes []photo.Box, channels int) int64 {
	largest := newTargets(h.upright(), boxes)[0]
	if largest.size == largest.scaled {
		return 0
	}
	// Grey has one channel. Colour has at least three, also where the source
	// has one channel with a palette or four of CMYK.
	return int64(largest.scaled.Width) * int64(largest.scaled.Height) * int64(min(channels, 3))
}
