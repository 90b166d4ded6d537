package thumbnail

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"regexp"
	"slices"
	"strings"

	"github.com/davidbyttow/govips/v2/vips"

	"github.com/photo-processor/photo-processor/internal/mediatype"
	"github.com/photo-processor/photo-processor/internal/photo"
)

// kind is a format of sources.
type kind struct {
	name       string         // in messages to clients
	loader     vips.ImageType // in govips
	signatures []string       // alternatives for the first bytes of a file; '?' is any byte
	mediaTypes []string       // of files in HEIF, whose brands take the place of signatures
	brands     []string       // the major brands for which libvips uses the loader
}

// kinds lists the allowed formats: those of cameras, phones and the web whose
// decoders libvips considers fit for untrusted input.
var kinds = []kind{
	{name: "JPEG", loader: vips.ImageTypeJPEG, signatures: []string{"\xff\xd8\xff"}},
	{name: "PNG", loader: vips.ImageTypePNG, signatures: []string{"\x89PNG\r\n\x1a\n"}},
	{name: "WebP", loader: vips.ImageTypeWEBP, signatures: []string{"RIFF????WEBPVP8"}},
	{name: "GIF", loader: vips.ImageTypeGIF, signatures: []string{"GIF87a", "GIF89a"}},
	{name: "TIFF", loader: vips.ImageTypeTIFF, signatures: []string{"II*\x00", "MM\x00*", "II+\x00", "MM\x00+"}},
	{name: "AVIF", loader: vips.ImageTypeAVIF, mediaTypes: []string{mediatype.AVIF}, brands: []string{"avif"}},
	{
		name: "HEIC", loader: vips.ImageTypeHEIF,
		mediaTypes: []string{mediatype.HEIC, mediatype.HEICSequence, mediatype.HEIF, mediatype.HEIFSequence},
		brands:     []string{"heic", "heix", "mif1", "msf1"},
	},
}

// identify returns the kind of the source, or a failure with the code
// unsupported_image.
func identify(source []byte) (kind, error) {
	var names []string
	for _, k := range kinds {
		if k.matches(source) && vips.IsTypeSupported(k.loader) {
			return k, nil
		}
		names = append(names, k.name)
	}
	if len(source) == 0 {
		return kind{}, photo.Fail(photo.UnsupportedImage, "the file is empty")
	}
	return kind{}, photo.Fail(photo.UnsupportedImage, "the file (%s) is of a kind that is not supported; a photo must be one of %s", mediatype.Detect(source), strings.Join(names, ", "))
}

// matches reports whether the source begins like a file of the kind.
func (k kind) matches(source []byte) bool {
	if len(k.mediaTypes) > 0 {
		return slices.Contains(k.mediaTypes, mediatype.DetectHEIF(source))
	}
	return slices.ContainsFunc(k.signatures, func(signature string) bool { return hasSignature(source, signature) })
}

// withLoaderBrand returns the source with brands that libvips and libheif
// accept: libvips looks at the major brand only, and libheif at the compatible
// ones, and both know few of those that a picture may have. The given source
// stays as it is.
func (k kind) withLoaderBrand(source []byte) []byte {
	if len(k.brands) == 0 {
		return source
	}
	const major, compatible = 8, 16
	end := min(len(source), int(binary.BigEndian.Uint32(source)))
	isCompatible := false
	for at := compatible; at+4 <= end; at += 4 {
		isCompatible = isCompatible || slices.Contains(libheifBrands, string(source[at:at+4]))
	}
	isMajor := slices.Contains(k.brands, string(source[major:major+4]))
	if isMajor && isCompatible {
		return source
	}
	source = bytes.Clone(source)
	if !isMajor {
		copy(source[major:], k.brands[0])
	}
	if !isCompatible && compatible+4 <= end {
		copy(source[compatible:], libheifBrands[0])
	}
	return source
}

// libheifBrands are the compatible brands of which libheif requires one.
var libheifBrands = []string{"mif1", "heic", "heix", "avif"}

// hasSignature reports whether the source begins with the signature.
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

// header holds the properties of a source that its header claims.
type header struct {
	kind        kind
	size        photo.Size // as stored, before orientation
	orientation int        // in EXIF's numbers, from 1 to 8
}

// upright returns the size after orientation.
func (h header) upright() photo.Size { return h.turn(h.size) }

// turn converts a size between before and after orientation, in either
// direction.
func (h header) turn(s photo.Size) photo.Size {
	if h.orientation >= 5 { // rotated by 90 degrees
		return photo.Size{Width: s.Height, Height: s.Width}
	}
	return s
}

// maxChannels admits CMYK with alpha, which has the most channels among photos.
// A TIFF may claim 65535.
const maxChannels = 5

// inspect reads the header and checks it against the limits. It decodes no
// pixel.
func inspect(source []byte, k kind, o Options, mode loadMode) (header, error) {
	if canvas, ok := webpCanvas(source); ok {
		if err := checkPixels(canvas, o.MaxPixels); err != nil {
			return header{}, err
		}
	}
	img, err := open(source, preshrink{}, mode)
	if err != nil {
		return header{}, &loadError{errorText(err)}
	}
	defer img.Close()
	if img.Format() != k.loader {
		return header{}, photo.Fail(photo.CorruptImage, "the file begins like a %s picture but is none", k.name)
	}

	h := header{
		kind:        k,
		size:        sizeOf(img),
		orientation: max(1, img.Orientation()), // libvips returns 0 for none or an invalid one
	}
	if err := checkPixels(h.size, o.MaxPixels); err != nil {
		return header{}, err
	}
	if screen, ok := gifScreen(source); ok {
		h.size = screen
		if err := checkPixels(h.size, o.MaxPixels); err != nil {
			return header{}, err
		}
	}
	need := decodeMemory(source, k, img) + coverMemory(h, o.Boxes, img.Bands())
	if o.MaxMemory > 0 && need > o.MaxMemory {
		return header{}, photo.Fail(photo.ImageTooLarge, "decoding the picture (%s, %s) takes more than %d MB of memory; the limit is %d MB (from RENDER_MAX_MEMORY)",
			k.name, h.size, need/1_000_000, o.MaxMemory/1_000_000)
	}
	if frames := img.Pages(); frames > o.MaxFrames {
		return header{}, photo.Fail(photo.ImageTooLarge, "the picture has %d frames; the limit is %d (IMAGE_MAX_FRAMES)", frames, o.MaxFrames)
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
		return photo.Fail(photo.ImageTooLarge, "the picture has %d pixels (%s); the limit is %d (IMAGE_MAX_PIXELS)", pixels, s, limit)
	}
	return nil
}

// webpCanvas returns the size of the canvas of an extended WebP file. libvips
// allocates the canvas while it reads the header, before the limit on pixels
// could be checked, and reports sides over 16383 pixels as corrupt.
func webpCanvas(source []byte) (photo.Size, bool) {
	if !hasSignature(source, "RIFF????WEBPVP8X") || len(source) < 30 {
		return photo.Size{}, false
	}
	uint24 := func(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }
	return photo.Size{Width: 1 + uint24(source[24:]), Height: 1 + uint24(source[27:])}, true
}

// gifScreen returns the size of a GIF's logical screen, unless a side is 0.
// libvips enlarges the picture to the extent of its frames, and replaces the
// screen by that extent if the screen's size is a usual one of monitors.
// Browsers show the screen.
func gifScreen(source []byte) (photo.Size, bool) {
	if !hasSignature(source, "GIF8?a") || len(source) < 10 {
		return photo.Size{}, false
	}
	le := binary.LittleEndian
	screen := photo.Size{Width: int(le.Uint16(source[6:])), Height: int(le.Uint16(source[8:]))}
	return screen, screen.Width > 0 && screen.Height > 0
}

// preshrink is the part of the shrink that a decoder does while it decodes,
// which saves most of the work. The zero value decodes the full size.
type preshrink struct {
	jpeg int     // divisor of both sides: 1, 2, 4 or 8
	webp float64 // factor on both sides, over 0 and up to 1
}

// loadMode selects how libvips loads a source, and so which faults of the
// source make it fail. govips chooses by the type of the source: a reader or a
// slice.
type loadMode int

const (
	// tolerant fails on truncated pictures and ignores warnings. It takes a
	// reader, whose callbacks from C cost a tenth of a thumbnail's CPU, and a
	// quarter for a PNG.
	tolerant loadMode = iota

	// strict takes a slice, and fails on warnings too, some of which are about
	// harmless faults. It does not detect truncated GIFs.
	strict
)

// loadModes returns the modes to try in turn, the cheapest first.
func (k kind) loadModes() []loadMode {
	switch k.loader {
	case vips.ImageTypeJPEG, vips.ImageTypePNG, vips.ImageTypeWEBP:
		return []loadMode{strict, tolerant}
	default:
		return []loadMode{tolerant}
	}
}

// open reads the header. libvips decodes the pixels later, on demand and from
// top to bottom. The caller closes the image.
func open(source []byte, p preshrink, mode loadMode) (*vips.ImageRef, error) {
	params := vips.NewImportParams() // has FailOnError set
	params.Access.Set(vips.AccessSequential)
	if p.jpeg > 1 {
		params.JpegShrinkFactor.Set(p.jpeg)
	}
	if p.webp > 0 && p.webp < 1 {
		params.WebpScaleFactor.Set(p.webp)
	}
	if mode == strict {
		return vips.LoadImageFromBuffer(source, params)
	}
	return vips.LoadImageFromReader(bytes.NewReader(source), params)
}

// loadError is libvips' reason for not decoding a source.
type loadError struct{ reason string }

func (e *loadError) Error() string { return e.reason }

// isOfMissingData reports whether the text is libjpeg's warning about a JPEG
// that ends, with an end marker, before its last pixel. libjpeg then decodes
// grey, and libvips' strict mode does not fail if that is in the last rows.
// libjpeg reports only the first warning of a picture, so a harmless fault
// before the end hides this one.
func (e *loadError) isOfMissingData() bool {
	return strings.Contains(e.reason, "VipsJpeg: Corrupt JPEG data: premature end of data segment") ||
		strings.Contains(e.reason, "VipsJpeg: Corrupt JPEG data: found marker 0xd9 instead of RST")
}

// decodeFailure returns the failure for a source that libvips could not decode.
// The source's header and libvips' reason determine the code. The reason is not
// shown to clients, because it is in terms of C libraries.
func decodeFailure(source []byte, k kind, reason string) error {
	slog.Debug("libvips cannot decode a picture", "format", k.name, "reason", reason)
	mentions := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(reason, w) })
	}
	switch {
	case mentions("Maximum supported image dimension", "exceeds the maximum image size"):
		return photo.Fail(photo.ImageTooLarge, "the picture is wider or higher than %s pictures may be", k.name)
	case mentions("tile size out of range") && hasLargeTiles(source):
		return photo.Fail(photo.ImageTooLarge, "the tiles of the %s picture are larger than libraries allow", k.name)
	case isOutOfMemory(reason):
		return photo.Fail(photo.ImageTooLarge, "the %s picture needs more memory than the limit (RENDER_MAX_MEMORY)", k.name)
	}
	if feature := unsupportedFeature(source, k); feature != "" {
		return photo.Fail(photo.UnsupportedImage, "%s with %s is not supported", k.name, feature)
	}
	if isUnsupported.MatchString(reason) {
		return photo.Fail(photo.UnsupportedImage, "the %s picture is of a kind that is not supported", k.name)
	}
	return photo.Fail(photo.CorruptImage, "the %s picture cannot be decoded: it is damaged or cut short", k.name)
}

// isUnsupported matches the reasons of libvips and its codecs for refusing a
// well-formed picture. libheif's have two numbers, the first of which is
// heif_error_code: 3 is an unsupported type of file, 4 an unsupported feature,
// 11 a plugin that is missing.
var isUnsupported = regexp.MustCompile(`heif: .*\((3|4|11)\.\d+\)|` +
	`Unsupported (JPEG process|JPEG data precision|color conversion|codec)|` +
	`not implemented|not been built in|not configured|` +
	`tiff2vips: .*(unsupported|not supported|not a whole number of bytes)|` +
	`VP8_STATUS_UNSUPPORTED_FEATURE`)

// memoryReason matches the reasons of libvips and its codecs for a failed
// allocation, or for a limit of theirs on memory. 6 is libheif's code for both.
var memoryReason = regexp.MustCompile(`(?i)out of memory|out_of_memory|(insufficient|not enough|cannot allocate|failed to allocate|unable to allocate) .{0,20}\b(memory|space|buffer)|` +
	`(insufficient|not enough) memory|cannot allocate|memory allocation|no space for|heif: .*\(6\.\d+\)`)

// isOutOfMemory reports whether the reason of libvips is a lack of memory.
func isOutOfMemory(reason string) bool { return memoryReason.MatchString(reason) }
