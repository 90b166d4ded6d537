package thumbnail

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"math/rand/v2"
	"testing"

	"github.com/davidbyttow/govips/v2/vips"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

const svg = `<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"><text y="20">&x;</text></svg>`

func TestMakeRefusesWhatIsNoPhoto(t *testing.T) {
	t.Parallel()
	random := make([]byte, 4096)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(random)
	random[0] = 0x01 // of no signature
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

// Should one of the files above ever get past the signatures, libvips itself
// must still refuse to decode it. (It does so for PDFs as well, but only after
// their parser has seen them: the signatures are the better guard.)
func TestLibvipsRunsNoUntrustedDecoder(t *testing.T) {
	t.Parallel()
	for name, source := range map[string]string{"SVG": svg, "PPM": "P6 1 1 255\nabc"} {
		_, err := vips.LoadImageFromReader(bytes.NewReader([]byte(source)), nil)
		require.ErrorContains(t, err, "operation is blocked", name)
	}
}

// A picture that is cut short must be refused, however little is missing, and
// not be delivered half grey.
func TestMakeRefusesWhatIsCutShort(t *testing.T) {
	t.Parallel()
	img := scene(400, 301)
	gif := asGIF(t, img)
	for name, tt := range map[string]struct {
		source []byte
		spare  int // bytes at the end that hold nothing of the picture
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
				_, err := Make(tt.source[:length], Options{Boxes: []photo.Size{{Width: 100, Height: 100}}})
				requireFailure(t, err, photo.CorruptImage, "cut short")
			}
		})
	}
}

// Bytes in the wrong place must not decode as something else, nor crash.
func TestMakeRefusesGarbage(t *testing.T) {
	t.Parallel()
	garbage := make([]byte, 4096)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(garbage)
	for _, k := range kinds {
		for _, signature := range k.signatures {
			source := bytes.ReplaceAll(append([]byte(signature), garbage...), []byte("?"), []byte{0})
			_, err := Make(source, Options{Boxes: box320})
			requireFailure(t, err, photo.CorruptImage, k.name)
		}
	}
}

// Programs write JPEGs with small faults that every viewer forgives.
func TestMakeForgivesHarmlessFaults(t *testing.T) {
	t.Parallel()
	source := asJPEG(t, corners(640, 480), 90)
	scan := bytes.Index(source, []byte{0xff, 0xda})
	for name, faulty := range map[string][]byte{
		"bytes after the end":     append(bytes.Clone(source), "garbage"...),
		"bytes before a marker":   bytes.Join([][]byte{source[:scan], source[scan:]}, []byte{0, 1, 2}),
		"EXIF that is none":       withSegment(source, 0xe1, []byte("Exif\x00\x00nonsense")),
		"EXIF that is cut short":  withSegment(source, 0xe1, []byte("Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x09")),
		"a profile that is empty": withProfile(t, source, []byte{0}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := mustMake(t, faulty, Options{Boxes: box320})
			requireCorners(t, decoded(t, p), 8)
		})
	}
}

// bombs are small files that claim to be 60000 pixels wide and high.
func bombs(t testing.TB) map[string][]byte {
	t.Helper()
	const side = 60000
	le, be := binary.LittleEndian, binary.BigEndian

	jpeg := asJPEG(t, solid(8, 8, red), 90)
	frame := bytes.Index(jpeg, []byte{0xff, 0xc0})
	be.PutUint16(jpeg[frame+5:], side)
	be.PutUint16(jpeg[frame+7:], side)

	ihdr := be.AppendUint32(be.AppendUint32(nil, side), side)
	ihdr = append(ihdr, 8, 2, 0, 0, 0)
	png := append([]byte("\x89PNG\r\n\x1a\n"), chunk("IHDR", ihdr)...)
	png = append(png, chunk("IDAT", []byte("\x78\x9c\x63\x00"))...)

	gif := asGIF(t, solid(8, 8, red))
	le.PutUint16(gif[6:], side)
	le.PutUint16(gif[8:], side)
	descriptor := bytes.Index(gif, []byte{0x2c, 0, 0, 0, 0, 8, 0, 8, 0})
	le.PutUint16(gif[descriptor+5:], side)
	le.PutUint16(gif[descriptor+7:], side)

	webp := []byte("RIFF\x16\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00")
	webp = append(webp, byte((side-1)&255), byte((side-1)>>8), 0, byte((side-1)&255), byte((side-1)>>8), 0)

	tiff := []byte("II\x2a\x00\x08\x00\x00\x00")
	tags := [][3]uint32{{256, 4, side}, {257, 4, side}, {258, 3, 8}, {259, 3, 1}, {262, 3, 1}, {273, 4, 8}, {277, 3, 1}, {278, 4, 1}, {279, 4, 1}}
	tiff = le.AppendUint16(tiff, uint16(len(tags)))
	for _, tag := range tags {
		tiff = le.AppendUint16(tiff, uint16(tag[0]))
		tiff = le.AppendUint16(tiff, uint16(tag[1]))
		tiff = le.AppendUint32(tiff, 1)
		tiff = le.AppendUint32(tiff, tag[2])
	}
	tiff = le.AppendUint32(tiff, 0)

	claim := func(heif []byte) []byte {
		for at := 0; ; {
			next := bytes.Index(heif[at:], []byte("ispe"))
			if next < 0 {
				return heif
			}
			at += next + 8
			be.PutUint32(heif[at:], side)
			be.PutUint32(heif[at+4:], side)
		}
	}
	return map[string][]byte{
		"JPEG": jpeg, "PNG": png, "GIF": gif, "WebP": webp, "TIFF": tiff,
		"HEIC": claim(asHEIC(t, solid(64, 64, red))), "AVIF": claim(asAVIF(t, solid(64, 64, red))),
	}
}

// Not parallel: it looks at how much memory libvips used.
func TestMakeRefusesPixelBombs(t *testing.T) {
	for name, source := range bombs(t) {
		t.Run(name, func(t *testing.T) {
			_, err := Make(source, Options{Boxes: box320})
			switch name {
			case "HEIC", "AVIF": // has a limit of its own and does not say what it saw
				requireFailure(t, err, photo.ImageTooLarge, name)
			default:
				requireFailure(t, err, photo.ImageTooLarge, "the picture has 3600000000 pixels (60000x60000); the limit is 100000000")
			}
		})
	}
	var stats vips.MemoryStats
	vips.ReadVipsMemStats(&stats)
	require.Less(t, stats.MemHigh, int64(100<<20), "nothing near 60000x60000 may ever have been reserved")
}

func TestMakeLimits(t *testing.T) {
	t.Parallel()
	source := asPNG(t, solid(100, 50, red))
	mustMake(t, source, Options{Boxes: box320, MaxPixels: 5000})
	_, err := Make(source, Options{Boxes: box320, MaxPixels: 4999})
	requireFailure(t, err, photo.ImageTooLarge, "the picture has 5000 pixels (100x50); the limit is 4999")

	frames := make([]image.Image, 5)
	for i := range frames {
		frames[i] = solid(20, 20, []color.NRGBA{red, green, blue, yellow, white}[i])
	}
	for name, source := range map[string][]byte{
		"GIF":  asGIF(t, frames...),
		"WebP": export(t, animation(t, frames...), (*vips.ImageRef).ExportWebp, quickWebP),
		"TIFF": export(t, animation(t, frames...), (*vips.ImageRef).ExportTiff, plainTIFF),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mustMake(t, source, Options{Boxes: box320, MaxFrames: 5})
			_, err := Make(source, Options{Boxes: box320, MaxFrames: 4})
			requireFailure(t, err, photo.ImageTooLarge, "the picture has 5 frames; the limit is 4")
			// The limit on pixels is for one frame.
			mustMake(t, source, Options{Boxes: box320, MaxPixels: 400})
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

func TestUnreadable(t *testing.T) {
	t.Parallel()
	for reason, code := range map[string]photo.Code{
		"VipsJpeg: Premature end of input file":                                                                                     photo.CorruptImage,
		"VipsJpeg: Unsupported marker type 0x03":                                                                                    photo.CorruptImage,
		"VipsJpeg: Unsupported JPEG process: SOF type 0xc3":                                                                         photo.UnsupportedImage,
		"heif: Unsupported feature: Unsupported codec (4.3000)":                                                                     photo.UnsupportedImage,
		"heif: Error while loading plugin: Support for this compression format has not been built in (11.6003)":                     photo.UnsupportedImage,
		"VipsJpeg: Maximum supported image dimension is 65500 pixels":                                                               photo.ImageTooLarge,
		"heif: Memory allocation error: Security limit exceeded: Image size 60000x60000 exceeds the maximum image size 16384x16384": photo.ImageTooLarge,
		"vips_tracked: out of memory --- size == 800MB":                                                                             photo.Internal,
	} {
		requireFailure(t, unreadable(kinds[0], reason), code, "JPEG")
	}
}

// FuzzMake holds Make to its promises for any bytes: it returns, and either with
// a failure that a photo can end with, or with pictures that are what they say.
func FuzzMake(f *testing.F) {
	small := corners(40, 30)
	for _, source := range map[string][]byte{
		"JPEG":        withProfile(f, withOrientation(asJPEG(f, small, 80), 6), displayP3.icc()),
		"PNG":         asPNG(f, halfTransparent(40, 30)),
		"profile PNG": withProfile(f, asPNG(f, small), adobeRGB.icc()),
		"WebP":        asWebP(f, halfTransparent(40, 30)),
		"GIF":         asGIF(f, small, halfTransparent(40, 30)),
		"TIFF":        asTIFF(f, small),
		"HEIC":        asHEIC(f, corners(64, 64)),
		"AVIF":        asAVIF(f, corners(64, 64)),
		"animation":   export(f, animation(f, small, halfTransparent(40, 30)), (*vips.ImageRef).ExportWebp, quickWebP),
	} {
		f.Add(source)
		f.Add(source[:len(source)/2])
		f.Add(append(bytes.Clone(source[:len(source)/2]), source[len(source)/3:]...))
	}
	for _, source := range bombs(f) {
		f.Add(source)
	}
	f.Add([]byte(svg))
	f.Add([]byte{})

	boxes := []photo.Size{{Width: 16, Height: 16}, {Width: 30, Height: 5}}
	f.Fuzz(func(t *testing.T, source []byte) {
		pictures, err := Make(source, Options{Boxes: boxes, MaxPixels: 1 << 20, MaxFrames: 100})
		if err != nil {
			var failure *photo.Failure
			require.ErrorAs(t, err, &failure)
			require.Contains(t, []photo.Code{photo.UnsupportedImage, photo.CorruptImage, photo.ImageTooLarge}, failure.Code, "%s", failure.Message)
			require.Empty(t, pictures)
			return
		}
		require.NotEmpty(t, pictures)
		for i, p := range pictures {
			require.Equal(t, p.Size, sizeIn(decoded(t, p)))
			require.True(t, fits(p.Size, boxes), "%s", p.Size)
			if i > 0 {
				before := pictures[i-1].Size
				require.True(t, p.Size != before && p.Size.Width <= before.Width && p.Size.Height <= before.Height, "%s after %s", p.Size, before)
			}
		}
	})
}

func fits(size photo.Size, boxes []photo.Size) bool {
	for _, box := range boxes {
		if size.Width >= 1 && size.Height >= 1 && size.Width <= box.Width && size.Height <= box.Height {
			return true
		}
	}
	return false
}

func BenchmarkMake(b *testing.B) {
	source := asJPEG(b, scene(3000, 2000), 90)
	for _, format := range photo.Formats {
		for _, boxes := range [][]photo.Size{box320, {{Width: 1024, Height: 1024}, {Width: 320, Height: 320}, {Width: 128, Height: 128}}} {
			b.Run(fmt.Sprintf("%s-%d", format, len(boxes)), func(b *testing.B) {
				for b.Loop() {
					_, err := Make(source, Options{Boxes: boxes, Format: format})
					require.NoError(b, err)
				}
			})
		}
	}
}

// BenchmarkMakeFrom compares the formats of sources.
func BenchmarkMakeFrom(b *testing.B) {
	img := scene(3000, 2000)
	for name, source := range map[string][]byte{
		"JPEG":            asJPEG(b, img, 90),
		"Display-P3-JPEG": withProfile(b, asJPEG(b, img, 90), displayP3.icc()),
		"PNG":             asPNG(b, img),
		"WebP":            asWebP(b, img),
		"TIFF":            asTIFF(b, img),
		"HEIC":            asHEIC(b, img),
		"AVIF":            asAVIF(b, img),
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				_, err := Make(source, Options{Boxes: box320})
				require.NoError(b, err)
			}
		})
	}
}
