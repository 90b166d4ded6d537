package thumbnail

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"

	"github.com/davidbyttow/govips/v2/vips"
	"github.com/gabriel-vasile/mimetype"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// kind is a format that sources may have.
type kind struct {
	name       string         // as people know it
	loader     vips.ImageType // as govips knows it
	signatures []string       // of which one starts every such file; '?' stands for any byte
}

// kinds lists the formats that are allowed: what cameras, phones and the web
// use, as far as libvips trusts its decoder for untrusted input.
var kinds = []kind{
	{"JPEG", vips.ImageTypeJPEG, []string{"\xff\xd8\xff"}},
	{"PNG", vips.ImageTypePNG, []string{"\x89PNG\r\n\x1a\n"}},
	{"WebP", vips.ImageTypeWEBP, []string{"RIFF????WEBPVP8"}},
	{"GIF", vips.ImageTypeGIF, []string{"GIF87a", "GIF89a"}},
	{"TIFF", vips.ImageTypeTIFF, []string{"II*\x00", "MM\x00*", "II+\x00", "MM\x00+"}},
	{"AVIF", vips.ImageTypeAVIF, []string{"????ftypavif"}},
	{"HEIC", vips.ImageTypeHEIF, []string{"????ftypheic", "????ftypheix", "????ftypmif1", "????ftypmsf1"}},
}

// identify finds the format of the source by its first bytes.
func identify(source []byte) (kind, error) {
	var names []string
	for _, k := range kinds {
		for _, signature := range k.signatures {
			if hasSignature(source, signature) && vips.IsTypeSupported(k.loader) {
				return k, nil
			}
		}
		names = append(names, k.name)
	}
	if len(source) == 0 {
		return kind{}, photo.Fail(photo.UnsupportedImage, "the file is empty")
	}
	mediaType, _, _ := strings.Cut(mimetype.Detect(source).String(), ";")
	return kind{}, photo.Fail(photo.UnsupportedImage, "the file (%s) is of a kind that is not supported; a photo must be one of %s", mediaType, strings.Join(names, ", "))
}

func hasSignature(source []byte, signature string) bool {
	if len(source) < len(signature) {
		return false
	}
	for i := range len(signature) {
		if signature[i] != '?' && signature[i] != source[i] {
			return false
		}
	}
	return true
}

// header is what a source says of itself before a pixel is decoded.
type header struct {
	kind        kind
	size        photo.Size // as stored, before orientation
	orientation int        // EXIF's, from 1 to 8
}

// upright is the size of the picture as it is meant to be seen.
func (h header) upright() photo.Size { return h.turn(h.size) }

// turn converts a size between how the picture is stored and how it is meant to
// be seen.
func (h header) turn(s photo.Size) photo.Size {
	if h.orientation >= 5 { // these four lie on their side
		return photo.Size{Width: s.Height, Height: s.Width}
	}
	return s
}

// maxChannels is enough for the richest picture that has a place among photos:
// CMYK with transparency. A TIFF may claim 65535.
const maxChannels = 5

// inspect reads the header, and refuses a source that is over a limit.
func inspect(source []byte, k kind, o Options, s strictness) (header, error) {
	if canvas, ok := webpCanvas(source); ok {
		if err := checkPixels(canvas, o.MaxPixels); err != nil {
			return header{}, err
		}
	}
	img, err := open(source, preshrink{}, s)
	if err != nil {
		return header{}, unreadable(k, reason(err))
	}
	defer img.Close()
	if img.Format() != k.loader {
		return header{}, photo.Fail(photo.CorruptImage, "the file begins like a %s picture but is none", k.name)
	}

	h := header{
		kind:        k,
		size:        photo.Size{Width: img.Width(), Height: img.Height()},
		orientation: max(1, img.Orientation()), // libvips gives 0 for none, and passes no nonsense on
	}
	if err := checkPixels(h.size, o.MaxPixels); err != nil {
		return header{}, err
	}
	if frames := img.Pages(); frames > o.MaxFrames {
		return header{}, photo.Fail(photo.ImageTooLarge, "the picture has %d frames; the limit is %d", frames, o.MaxFrames)
	}
	if channels := img.Bands(); channels > maxChannels {
		return header{}, photo.Fail(photo.UnsupportedImage, "the picture has %d channels; a photo has at most %d", channels, maxChannels)
	}
	if f := img.BandFormat(); f != vips.BandFormatUchar && f != vips.BandFormatUshort {
		return header{}, photo.Fail(photo.UnsupportedImage, "the picture's samples are not whole numbers of 8 or 16 bits")
	}
	if !img.IsColorSpaceSupported() {
		return header{}, photo.Fail(photo.UnsupportedImage, "the picture is in a colour space that cannot be converted to sRGB")
	}
	return h, nil
}

func checkPixels(s photo.Size, limit int64) error {
	if pixels := int64(s.Width) * int64(s.Height); pixels > limit {
		return photo.Fail(photo.ImageTooLarge, "the picture has %d pixels (%s); the limit is %d", pixels, s, limit)
	}
	return nil
}

// webpCanvas reads the size of the canvas from an extended WebP file. libvips
// reserves the memory for the canvas while it reads the header, which is too
// early for us, and calls a canvas over 16383 pixels a side corrupt.
func webpCanvas(source []byte) (photo.Size, bool) {
	if !hasSignature(source, "RIFF????WEBPVP8X") || len(source) < 30 {
		return photo.Size{}, false
	}
	uint24 := func(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }
	return photo.Size{Width: 1 + uint24(source[24:]), Height: 1 + uint24(source[27:])}, true
}

// preshrink makes a decoder deliver a smaller picture, which saves most of the
// work. The zero value delivers the picture in full.
type preshrink struct {
	jpeg int     // divide both sides by this: 1, 2, 4 or 8
	webp float64 // multiply both sides by this: over 0, up to 1
}

// strictness is what libvips refuses to decode. govips decides it by what it is
// handed.
type strictness int

const (
	// tolerant makes a picture that is cut short an error, and mere warnings
	// none. It takes a reader, whose calls back from C cost a tenth of the CPU
	// of a thumbnail, of a PNG a quarter.
	tolerant strictness = iota

	// strict takes a slice. Then pictures with harmless oddities are refused. It
	// is not for GIFs, which are accepted when they are cut short.
	strict
)

// strictnesses are how to try to read a picture, the cheapest first.
func (k kind) strictnesses() []strictness {
	switch k.loader {
	case vips.ImageTypeJPEG, vips.ImageTypePNG, vips.ImageTypeWEBP:
		return []strictness{strict, tolerant}
	default:
		return []strictness{tolerant}
	}
}

// open reads the header, and leaves the pixels to be decoded from top to bottom
// when they are asked for. The caller closes the image.
func open(source []byte, p preshrink, s strictness) (*vips.ImageRef, error) {
	params := vips.NewImportParams() // has FailOnError set
	params.Access.Set(vips.AccessSequential)
	if p.jpeg > 1 {
		params.JpegShrinkFactor.Set(p.jpeg)
	}
	if p.webp > 0 && p.webp < 1 {
		params.WebpScaleFactor.Set(p.webp)
	}
	if s == strict {
		return vips.LoadImageFromBuffer(source, params)
	}
	return vips.LoadImageFromReader(bytes.NewReader(source), params)
}

// unreadable says why a source could not be decoded. What libvips gave as the
// reason decides the code and is not shown: it is C's jargon.
func unreadable(k kind, reason string) error {
	slog.Debug("libvips could not decode a picture", "format", k.name, "reason", reason)
	says := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(reason, w) })
	}
	switch {
	case says("Maximum supported image dimension", "exceeds the maximum image size"):
		return photo.Fail(photo.ImageTooLarge, "the picture is wider or higher than %s pictures may be", k.name)
	case says("Unsupported JPEG process", "Unsupported JPEG data precision", "Unsupported codec", "has not been built in"):
		return photo.Fail(photo.UnsupportedImage, "the %s picture is of a kind that is not supported", k.name)
	case says("out of memory"):
		return photo.Fail(photo.Internal, "there was not enough memory to decode the %s picture", k.name)
	default:
		return photo.Fail(photo.CorruptImage, "the %s picture cannot be decoded: it is damaged or cut short", k.name)
	}
}
