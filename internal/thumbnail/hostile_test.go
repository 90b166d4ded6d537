package thumbnail

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/draw"
	"math/rand/v2"
	"testing"

	"github.com/davidbyttow/govips/v2/vips"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

const svg = `<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>

<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"><text y="20">&x;</text></svg>`

func TestMakeRefusesOtherFiles(t *testing.T) {
	t.Parallel()
	random := make([]byte, 4096)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(random)
	random[0] = 0x01 // begins no signature
	for name, tt := range map[string]struct{ source, words string }{
		"nothing":             {"", "empty"},
		"one byte":            {"\xff", "JPEG, PNG, WebP, GIF, TIFF, AVIF, HEIC"},
		"text":                {"hello, world", "text/plain"},
		"HTML":                {"<!doctype html><html><body><img src=x></body></html>", "text/html"},
		"JSON":                {`{"error":"not found"}`, "application/json"},
		"SVG":                 {svg, "image/svg+xml"},
		"PDF":                 {"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", "application/pdf"},
		"BMP":                 {"BM\x46\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00", "image/bmp"},
		"PPM":                 {"P6 1 1 255\nabc", "text/plain"},
		"JPEG XL":             {"\xff\x0a\x00\x10\x90\x7e\x00\x0c", "image/jxl"},
		"JPEG XL in a box":    {"\x00\x00\x00\x0cJXL \x0d\x0a\x87\x0a", "image/jxl"},
		"JPEG 2000":           {"\x00\x00\x00\x0cjP  \x0d\x0a\x87\x0a\x00\x00\x00\x14ftypjp2 ", "image/jp2"},
		"MP4":                 {"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41", "video/mp4"},
		"RIFF but no picture": {"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00", "audio/wav"},
		"ZIP":                 {"PK\x03\x04\x14\x00\x00\x00", "application/zip"},
		"random":              {string(random), "application/octet-stream"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Make([]byte(tt.source), Options{Boxes: box320})
			requireFailure(t, err, photo.UnsupportedImage, tt.words)
		})
	}
}

// TestLibvipsRunsNoUntrustedDecoder requires that libvips itself refuses files
// that the check of signatures might miss. It also refuses PDFs, but only after
// their parser has run, so the check of signatures is the stronger one.
func TestLibvipsRunsNoUntrustedDecoder(t *testing.T) {
	t.Parallel()
	for name, source := range map[string]string{"SVG": svg, "PPM": "P6 1 1 255\nabc"} {
		_, err := vips.LoadImageFromReader(bytes.NewReader([]byte(source)), nil)
		require.ErrorContains(t, err, "operation is blocked", name)
	}
}

// TestMakeRefusesTruncated requires a failure, rather than a half grey
// thumbnail, however little of a picture is missing.
func TestMakeRefusesTruncated(t *testing.T) {
	t.Parallel()
	img := scene(400, 301)
	gif := asGIF(t, img)
	for name, tt := range map[string]struct {
		source []byte
		spare  int // bytes at the end without data of the picture
	}{
		"JPEG":             {asJPEG(t, img, 90), 0},
		"progressive JPEG": {export(t, vipsImage(t, img), (*vips.ImageRef).ExportJpeg, vips.JpegExportParams{Interlace: true, Quality: 90}), 0},
		"PNG":              {asPNG(t, img), 12}, // IEND
		"interlaced PNG":   {export(t, vipsImage(t, img), (*vips.ImageRef).ExportPng, vips.PngExportParams{Interlace: true, Compression: 6}), 12},
		"WebP":             {asWebP(t, img), 0},
		"lossless WebP":    {export(t, vipsImage(t, img), (*vips.ImageRef).ExportWebp, vips.WebpExportParams{Lossless: true}), 0},
		"GIF":              {gif, 2}, // an empty block and the trailer
		"TIFF":             {asTIFF(t, img), 0},
		"tiled TIFF":       {export(t, vipsImage(t, img), (*vips.ImageRef).ExportTiff, vips.TiffExportParams{Compression: vips.TiffCompressionDeflate, Predictor: vips.TiffPredictorNone, Tile: true}), 0},
		"HEIC":             {asHEIC(t, img), 0},
		"AVIF":             {asAVIF(t, img), 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Make(tt.source, Options{Boxes: box320})
			require.NoError(t, err)
			whole := len(tt.source) - tt.spare
			for _, length := range []int{16, 40, 200, whole / 10, whole / 4, whole / 2, whole * 3 / 4, whole * 9 / 10, whole - 100, whole - 10, whole - 1} {
				_, err := Make(tt.source[:length], Options{Boxes: []photo.Box{{Width: 100, Height: 100}}})
				requireFailure(t, err, photo.CorruptImage, "cut short")
			}
		})
	}
}

// TestMakeRefusesMissingDataBeforeEnd has JPEGs that lack data but have the
// marker of their end. It is not parallel: other pictures could clear the
// warnings of libvips that decide.
func TestMakeRefusesMissingDataBeforeEnd(t *testing.T) {
	img, tiny := scene(400, 301), scene(50, 40)
	progressive := vips.JpegExportParams{Interlace: true, Quality: 90}
	for _, source := range [][]byte{
		asJPEG(t, img, 90),
		asJPEG(t, grey(img), 90),
		export(t, vipsImage(t, img), (*vips.ImageRef).ExportJpeg, progressive),
		asJPEG(t, tiny, 90),
		export(t, vipsImage(t, tiny), (*vips.ImageRef).ExportJpeg, progressive),
	} {
		scan := bytes.Index(source, []byte{0xff, 0xda})
		for _, part := range []float64{0.3, 0.5, 0.6, 0.9} {
			ended := append(bytes.Clone(source[:scan+int(part*float64(len(source)-scan))]), 0xff, 0xd9)
			for _, side := range []int{400, 150, 80, 40, 10} { // the decoder shrinks by 1, 2, 4 and 8
				_, err := Make(ended, Options{Boxes: []photo.Box{{Width: side, Height: side}}})
				requireFailure(t, err, photo.CorruptImage, "cut short")
			}
		}
	}
	intervals := withRestarts(t, 16)
	mustMake(t, intervals, Options{Boxes: box320})
	at := bytes.Index(intervals, []byte{0xff, 0xd7}) // the end of the first half
	_, err := Make(append(bytes.Clone(intervals[:at]), 0xff, 0xd9), Options{Boxes: box320})
	requireFailure(t, err, photo.CorruptImage, "cut short")
}

func grey(img image.Image) *image.Gray {
	out := image.NewGray(img.Bounds())
	draw.Draw(out, out.Rect, img, img.Bounds().Min, draw.Src)
	return out
}

// withRestarts returns a JPEG of n squares in a row, each in a restart interval
// of its own.
func withRestarts(t testing.TB, n int) []byte {
	t.Helper()
	const side = 16 // of a block that all components share
	square := asJPEG(t, solid(side, side, red), 90)
	frame, scan := bytes.Index(square, []byte{0xff, 0xc0}), bytes.Index(square, []byte{0xff, 0xda})
	const scanHeader = 2 + 12
	data := square[scan+scanHeader : len(square)-2]
	source := bytes.Clone(square[:scan+scanHeader])
	binary.BigEndian.PutUint16(source[frame+7:], uint16(side*n))
	for i := range n {
		if i > 0 {
			source = append(source, 0xff, 0xd0+byte((i-1)%8))
		}
		source = append(source, data...)
	}
	return withSegment(append(source, 0xff, 0xd9), 0xdd, []byte{0, 1}) // the interval
}

// TestMakeRefusesGarbage has random bytes after the signature of each kind.
func TestMakeRefusesGarbage(t *testing.T) {
	t.Parallel()
	garbage := make([]byte, 4096)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(garbage)
	for _, k := range kinds {
		signatures := k.signatures
		for _, brand := range k.brands {
			signatures = append(signatures, "????ftyp"+brand)
		}
		for _, signature := range signatures {
			source := bytes.ReplaceAll(append([]byte(signature), garbage...), []byte("?"), []byte{0})
			_, err := Make(source, Options{Boxes: box320})
			requireFailure(t, err, photo.CorruptImage, k.name)
		}
	}
}

// TestMakeForgivesHarmlessFaults has JPEGs with small faults that viewers
// ignore.
func TestMakeForgivesHarmlessFaults(t *testing.T) {
	t.Parallel()
	source := asJPEG(t, corners(640, 480), 90)
	scan := bytes.Index(source, []byte{0xff, 0xda})
	for name, faulty := range map[string][]byte{
		"bytes after the end":   append(bytes.Clone(source), "garbage"...),
		"bytes before a marker": bytes.Join([][]byte{source[:scan], source[scan:]}, []byte{0, 1, 2}),
		"invalid EXIF":          withSegment(source, 0xe1, []byte("Exif\x00\x00nonsense")),
		"truncated EXIF":        withSegment(source, 0xe1, []byte("Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x09")),
		"empty profile":         withProfile(t, source, []byte{0}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := mustMake(t, faulty, Options{Boxes: box320})
			requireCorners(t, decoded(t, p), 8)
		})
	}
}

func TestMakeRefusesUnusualSamples(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		bands  int
		format vips.BandFormat
		words  string
	}{
		"six channels": {6, vips.BandFormatUchar, "6 channels"},
		"32 bits":      {3, vips.BandFormatUint, "8 or 16 bits"},
		"signed":       {3, vips.BandFormatShort, "8 or 16 bits"},
		"float":        {3, vips.BandFormatFloat, "8 or 16 bits"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			img, err := vips.Black(20, 20)
			require.NoError(t, err)
			for range tt.bands - 1 {
				require.NoError(t, img.BandJoinConst([]float64{0}))
			}
			require.NoError(t, img.Cast(tt.format))
			_, err = Make(export(t, img, (*vips.ImageRef).ExportTiff, plainTIFF), Options{Boxes: box320})
			requireFailure(t, err, photo.UnsupportedImage, tt.words)
		})
	}
}

func TestDecodeFailure(t *testing.T) {
	t.Parallel()
	source := asJPEG(t, solid(8, 8, red), 90) // has no unsupported feature
	for reason, code := range map[string]photo.Code{
		"VipsJpeg: Premature end of input file":                                                                                     photo.CorruptImage,
		"VipsJpeg: Unsupported marker type 0x03":                                                                                    photo.CorruptImage,
		"heif: Invalid input: No 'meta' box (2.104)":                                                                                photo.CorruptImage,
		"VipsJpeg: Unsupported JPEG process: SOF type 0xc3":                                                                         photo.UnsupportedImage,
		"heif: Unsupported feature: Unsupported codec (4.3000)":                                                                     photo.UnsupportedImage,
		"heif: Error while loading plugin: Support for this compression format has not been built in (11.6003)":                     photo.UnsupportedImage,
		"VipsJpeg: Maximum supported image dimension is 65500 pixels":                                                               photo.ImageTooLarge,
		"heif: Memory allocation error: Security limit exceeded: Image size 60000x60000 exceeds the maximum image size 16384x16384": photo.ImageTooLarge,
		"heif: Memory allocation error: Security limit exceeded (6.1000)":                                                           photo.ImageTooLarge,
		"vips_tracked: out of memory --- size == 800MB":                                                                             photo.ImageTooLarge,
		"VipsJpeg: Insufficient memory (case 4)":                                                                                    photo.ImageTooLarge,
		"TIFFReadDirectory: Out of memory":                                                                                          photo.ImageTooLarge,
		"JPEGSetupDecode: No space for JPEG state block":                                                                            photo.ImageTooLarge,
		"TIFFFillStrip: Failed to allocate memory for strip (1 elements of 2 bytes each)":                                           photo.ImageTooLarge,
		"pngload: Insufficient memory to process iCCP chunk":                                                                        photo.ImageTooLarge,
		"webp2vips: VP8_STATUS_OUT_OF_MEMORY":                                                                                       photo.ImageTooLarge,
	} {
		requireFailure(t, decodeFailure(source, kinds[0], reason), code)
	}
}
