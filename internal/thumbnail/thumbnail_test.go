package thumbnail

import (
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/davidbyttow/govips/v2/vips"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// TestMain fails the run if a test left anything behind in libvips.
func TestMain(m *testing.M) {
	if err := Startup(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if left := leftInLibvips(); left != "" && code == 0 {
		fmt.Fprintln(os.Stderr, "libvips leaks:", left)
		code = 1
	}
	os.Exit(code)
}

// leftInLibvips says what libvips holds, or "" if that is nothing. It asks until
// it is nothing: libvips' threads give back their buffers a moment after the
// picture is done, and have no way to tell.
func leftInLibvips() string {
	deadline := time.Now().Add(10 * time.Second)
	for {
		left := heldByLibvips()
		if left == "" || time.Now().After(deadline) {
			return left
		}
		runtime.Gosched()
	}
}

func heldByLibvips() string {
	var stats vips.MemoryStats
	vips.ReadVipsMemStats(&stats)
	refs := vips.OpenImageRefs()
	if stats.Mem == 0 && stats.Allocs == 0 && stats.Files == 0 && refs == 0 {
		return ""
	}
	return fmt.Sprintf("%d bytes, %d allocations, %d files, %d images", stats.Mem, stats.Allocs, stats.Files, refs)
}

// box320 is the default configuration's.
var box320 = []photo.Size{{Width: 320, Height: 320}}

// mustMake makes the one thumbnail that the options ask for.
func mustMake(t testing.TB, source []byte, o Options) Picture {
	t.Helper()
	pictures, err := Make(source, o)
	require.NoError(t, err)
	require.Len(t, pictures, 1)
	return pictures[0]
}

// requireFailure wants a failure with the code whose message mentions the words.
func requireFailure(t testing.TB, err error, code photo.Code, words ...string) {
	t.Helper()
	var failure *photo.Failure
	require.ErrorAs(t, err, &failure)
	require.Equal(t, code, failure.Code, "%s", failure.Message)
	for _, w := range words {
		require.Contains(t, failure.Message, w)
	}
	for _, jargon := range []string{"vips", "Stack", "goroutine", "\n"} {
		require.NotContains(t, failure.Message, jargon)
	}
}

func TestMakeReadsEveryKind(t *testing.T) {
	t.Parallel()
	img := corners(320, 240)
	other := solid(320, 240, white)
	for name, source := range map[string][]byte{
		"JPEG":             asJPEG(t, img, 90),
		"progressive JPEG": export(t, vipsImage(t, img), (*vips.ImageRef).ExportJpeg, vips.JpegExportParams{Interlace: true, Quality: 90}),
		"PNG":              asPNG(t, img),
		"interlaced PNG":   export(t, vipsImage(t, img), (*vips.ImageRef).ExportPng, vips.PngExportParams{Interlace: true, Compression: 6}),
		"WebP":             asWebP(t, img),
		"animated WebP":    export(t, animation(t, img, other), (*vips.ImageRef).ExportWebp, quickWebP),
		"GIF":              asGIF(t, img),
		"animated GIF":     asGIF(t, img, other),
		"TIFF":             asTIFF(t, img),
		"packed TIFF":      export(t, vipsImage(t, img), (*vips.ImageRef).ExportTiff, vips.TiffExportParams{Compression: vips.TiffCompressionLzw, Predictor: vips.TiffPredictorHorizontal}),
		"tiled TIFF":       export(t, vipsImage(t, img), (*vips.ImageRef).ExportTiff, vips.TiffExportParams{Compression: vips.TiffCompressionDeflate, Predictor: vips.TiffPredictorNone, Tile: true}),
		"paged TIFF":       export(t, animation(t, img, other), (*vips.ImageRef).ExportTiff, plainTIFF),
		"HEIC":             asHEIC(t, img),
		"AVIF":             asAVIF(t, img),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := mustMake(t, source, Options{Boxes: []photo.Size{{Width: 100, Height: 100}}})
			require.Equal(t, photo.Size{Width: 100, Height: 75}, p.Size)
			requireCorners(t, decoded(t, p), 8)
		})
	}
}

func TestMakeWritesEveryFormat(t *testing.T) {
	t.Parallel()
	source := asPNG(t, corners(640, 480))
	signatures := map[photo.Format]string{
		photo.JPEG: "\xff\xd8\xff",
		photo.WebP: "RIFF????WEBP",
		photo.AVIF: "????ftypavif",
		photo.PNG:  "\x89PNG",
	}
	for _, format := range photo.Formats {
		t.Run(string(format), func(t *testing.T) {
			t.Parallel()
			p := mustMake(t, source, Options{Boxes: box320, Format: format})
			require.True(t, hasSignature(p.Bytes, signatures[format]), "%q", p.Bytes[:12])
			img := decoded(t, p)
			require.Equal(t, p.Size, sizeIn(img))
			requireCorners(t, img, 8)
		})
	}
}

// A thumbnail must look like its source, and not only in flat areas. The
// reference is made without libvips.
func TestMakeShowsTheSource(t *testing.T) {
	t.Parallel()
	img := scene(600, 400)
	want := map[photo.Size]*image.NRGBA{}
	var boxes []photo.Size
	for _, side := range []int{60, 300, 140} {
		boxes = append(boxes, photo.Size{Width: side, Height: side})
		size := photo.Size{Width: side, Height: (side*2 + 1) / 3}
		want[size] = average(img, size)
	}
	for name, source := range map[string][]byte{
		"JPEG": asJPEG(t, img, 95), // its decoder shrinks it
		"WebP": asWebP(t, img),     // the same
		"PNG":  asPNG(t, img),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// With all boxes, each thumbnail is made from the one before it;
			// with one, from what the decoder has shrunk.
			for _, boxes := range [][]photo.Size{boxes, boxes[:1]} {
				pictures, err := Make(source, Options{Boxes: boxes})
				require.NoError(t, err)
				require.Len(t, pictures, len(boxes))
				for _, p := range pictures {
					require.Less(t, difference(t, want[p.Size], decoded(t, p)), 4.0, "%s", p.Size)
				}
			}
		})
	}
	// The measure means something only if it tells pictures apart.
	for size, reference := range want {
		require.Greater(t, difference(t, reference, corners(size.Width, size.Height)), 30.0)
		mirrored := image.NewNRGBA(reference.Rect)
		for y := range size.Height {
			for x := range size.Width {
				mirrored.SetNRGBA(size.Width-1-x, y, reference.NRGBAAt(x, y))
			}
		}
		require.Greater(t, difference(t, reference, mirrored), 30.0)
	}
}

func TestMakeQuality(t *testing.T) {
	t.Parallel()
	source := asJPEG(t, scene(400, 300), 95)
	boxes := []photo.Size{{Width: 160, Height: 160}}
	for _, format := range []photo.Format{photo.JPEG, photo.WebP, photo.AVIF} {
		low := mustMake(t, source, Options{Boxes: boxes, Format: format, Quality: 20})
		usual := mustMake(t, source, Options{Boxes: boxes, Format: format})
		same := mustMake(t, source, Options{Boxes: boxes, Format: format, Quality: DefaultQuality})
		high := mustMake(t, source, Options{Boxes: boxes, Format: format, Quality: 100})
		require.Less(t, len(low.Bytes), len(usual.Bytes), "%s", format)
		require.Equal(t, len(usual.Bytes), len(same.Bytes), "%s", format)
		require.Less(t, len(usual.Bytes), len(high.Bytes), "%s", format)
	}
}

func TestMakeSizes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		source string
		boxes  string
		want   string
	}{
		{"640x480", "320x320", "320x240"},
		{"480x640", "320x320", "240x320"},
		{"640x480", "320x100", "133x100"},
		{"1000x667", "320x320", "320x213"},
		{"333x1000", "320x320", "107x320"},
		// Never enlarged.
		{"320x240", "320x320", "320x240"},
		{"100x60", "320x320", "100x60"},
		{"321x20", "320x320", "320x20"},
		{"1x1", "320x320", "1x1"},
		// Never less than a pixel.
		{"1x5000", "320x320", "1x320"},
		{"5000x1", "320x320", "320x1"},
		{"3x5000", "320x320", "1x320"},
		{"640x480", "1x1", "1x1"},
		// Largest first, whatever the order of the boxes.
		{"640x480", "64x64 320x320 128x128", "320x240 128x96 64x48"},
		// The boxes' shapes do not matter, nor that they do not contain each other.
		{"640x480", "600x30 50x400", "50x38 40x30"},
		// Two boxes that give one size give one thumbnail.
		{"500x500", "320x100 100x320", "100x100"},
		{"640x480", "320x320 320x240 320x9999", "320x240"},
		{"100x60", "320x320 1024x1024 50x50", "100x60 50x30"},
		{"640x480", "320x320 319x319", "320x240 319x239"},
	} {
		t.Run(tt.source+" "+tt.boxes, func(t *testing.T) {
			t.Parallel()
			size, err := photo.ParseSize(tt.source)
			require.NoError(t, err)
			var boxes []photo.Size
			for box := range strings.FieldsSeq(tt.boxes) {
				b, err := photo.ParseSize(box)
				require.NoError(t, err)
				boxes = append(boxes, b)
			}
			img := solid(size.Width, size.Height, green)
			for name, source := range map[string][]byte{
				"PNG":  asPNG(t, img),
				"JPEG": asJPEG(t, img, 90),
				"WebP": asWebP(t, img),
			} {
				pictures, err := Make(source, Options{Boxes: boxes})
				require.NoError(t, err)
				var got []string
				for _, p := range pictures {
					got = append(got, p.Size.String())
					img := decoded(t, p)
					require.Equal(t, p.Size, sizeIn(img), "the size recorded is the encoded one")
					requireColour(t, green, at(img, 0.5, 0.5), 6)
				}
				require.Equal(t, tt.want, strings.Join(got, " "), "from %s", name)
			}
		})
	}
}

// Every orientation of one picture gives the same thumbnail.
func TestMakeTurnsUpright(t *testing.T) {
	t.Parallel()
	const w, h = 640, 400
	upright := corners(w, h)
	// Where each orientation's stored pixel (x, y) is in the upright picture.
	places := map[uint16]func(x, y int) (int, int){
		1: func(x, y int) (int, int) { return x, y },
		2: func(x, y int) (int, int) { return w - 1 - x, y },
		3: func(x, y int) (int, int) { return w - 1 - x, h - 1 - y },
		4: func(x, y int) (int, int) { return x, h - 1 - y },
		5: func(x, y int) (int, int) { return y, x },
		6: func(x, y int) (int, int) { return w - 1 - y, x },
		7: func(x, y int) (int, int) { return w - 1 - y, h - 1 - x },
		8: func(x, y int) (int, int) { return y, h - 1 - x },
	}
	boxes := []photo.Size{{Width: 320, Height: 320}, {Width: 999, Height: 50}}
	want, err := Make(asJPEG(t, upright, 95), Options{Boxes: boxes})
	require.NoError(t, err)
	require.Len(t, want, 2)

	for orientation, place := range places {
		t.Run(fmt.Sprint(orientation), func(t *testing.T) {
			t.Parallel()
			stored := image.NewNRGBA(image.Rect(0, 0, w, h))
			if orientation >= 5 {
				stored = image.NewNRGBA(image.Rect(0, 0, h, w))
			}
			for y := range stored.Rect.Dy() {
				for x := range stored.Rect.Dx() {
					ux, uy := place(x, y)
					stored.SetNRGBA(x, y, upright.NRGBAAt(ux, uy))
				}
			}
			pictures, err := Make(withOrientation(asJPEG(t, stored, 95), orientation), Options{Boxes: boxes})
			require.NoError(t, err)
			require.Len(t, pictures, 2)
			for i, p := range pictures {
				require.Equal(t, want[i].Size, p.Size)
				img := decoded(t, p)
				requireCorners(t, img, 10)
				require.Less(t, difference(t, decoded(t, want[i]), img), 1.5)
			}
		})
	}
}

func TestMakeIgnoresNonsenseOrientations(t *testing.T) {
	t.Parallel()
	for _, orientation := range []uint16{0, 9, 255, 65535} {
		p := mustMake(t, withOrientation(asJPEG(t, corners(64, 48), 95), orientation), Options{Boxes: box320})
		require.Equal(t, photo.Size{Width: 64, Height: 48}, p.Size)
		requireCorners(t, decoded(t, p), 10)
	}
}

// HEIC has its own way to turn pictures, which its decoder follows. The EXIF
// orientation is a copy of it: to follow both would turn the picture twice.
func TestMakeTurnsHEICOnce(t *testing.T) {
	t.Parallel()
	img := vipsImage(t, corners(64, 48))
	require.NoError(t, img.SetOrientation(6))
	source := export(t, img, (*vips.ImageRef).ExportHeif, quickHEIC)
	require.Contains(t, string(source), "Exif")

	p := mustMake(t, source, Options{Boxes: box320})
	require.Equal(t, photo.Size{Width: 64, Height: 48}, p.Size)
	requireCorners(t, decoded(t, p), 10)
}

func TestMakeTransparency(t *testing.T) {
	t.Parallel()
	img := halfTransparent(160, 120)
	palette := image.NewPaletted(image.Rect(0, 0, 160, 120), color.Palette{clear, red})
	deep := image.NewNRGBA64(image.Rect(0, 0, 160, 120))
	for y := range 120 {
		for x := range 80 {
			palette.SetColorIndex(x, y, 1)
			deep.Set(x, y, red)
		}
	}
	for name, source := range map[string][]byte{
		"PNG":         asPNG(t, img),
		"palette PNG": asPNG(t, palette),
		"16-bit PNG":  asPNG(t, deep),
		"WebP":        asWebP(t, img),
		"GIF":         asGIF(t, img),
		"TIFF":        asTIFF(t, img),
		"AVIF":        asAVIF(t, img),
	} {
		for _, format := range photo.Formats {
			t.Run(fmt.Sprintf("%s to %s", name, format), func(t *testing.T) {
				t.Parallel()
				boxes := []photo.Size{{Width: 80, Height: 80}, {Width: 40, Height: 40}}
				pictures, err := Make(source, Options{Boxes: boxes, Format: format})
				require.NoError(t, err)
				for _, p := range pictures {
					got := decoded(t, p)
					requireColour(t, red, at(got, 0.25, 0.5), 10)
					if format == photo.JPEG {
						requireColour(t, white, at(got, 0.75, 0.5), 6)
					} else {
						requireColour(t, clear, at(got, 0.75, 0.5), 6)
					}
				}
			})
		}
	}
}

// Half-transparent red on white is pink, also beside an edge: the shrink must
// not let the colour of invisible pixels through.
func TestMakeBlendsTransparency(t *testing.T) {
	t.Parallel()
	veil := color.NRGBA{R: 255, A: 128}
	p := mustMake(t, asPNG(t, solid(640, 480, veil)), Options{Boxes: box320})
	requireColour(t, color.NRGBA{R: 255, G: 127, B: 127, A: 255}, at(decoded(t, p), 0.5, 0.5), 3)

	stripes := solid(640, 480, red)
	for y := range 480 {
		for x := range 640 {
			if x%4 >= 2 {
				stripes.SetNRGBA(x, y, color.NRGBA{G: 255}) // green, but invisible
			}
		}
	}
	p = mustMake(t, asPNG(t, stripes), Options{Boxes: []photo.Size{{Width: 80, Height: 80}}, Format: photo.PNG})
	got := at(decoded(t, p), 0.5, 0.5)
	require.InDelta(t, 128, got.A, 6)
	got.A = 255
	requireColour(t, red, got, 6)
}

// Nothing of the source but its pixels may reach a thumbnail.
func TestMakeStripsMetadata(t *testing.T) {
	t.Parallel()
	source := withOrientation(asJPEG(t, scene(640, 480), 90), 1)
	source = withSegment(source, 0xe1, []byte("http://ns.adobe.com/xap/1.0/\x00<x:xmpmeta xmlns:x='adobe:ns:meta/'><secret/></x:xmpmeta>"))
	source = withSegment(source, 0xed, []byte("Photoshop 3.0\x008BIM\x04\x04\x00\x00\x00\x00\x00\x0b\x1c\x02\x05\x00\x06secret"))
	source = withSegment(source, 0xfe, []byte("secret"))
	source = withProfile(t, source, displayP3.icc())

	before, err := vips.NewImageFromBuffer(source)
	require.NoError(t, err)
	defer before.Close()
	fields := strings.Join(before.GetFields(), " ")
	for _, f := range []string{"exif-data", "exif-ifd3-GPSLatitudeRef", "xmp-data", "iptc-data", "icc-profile-data"} {
		require.Contains(t, fields, f, "the test's source must have what is to be stripped")
	}

	for _, format := range photo.Formats {
		t.Run(string(format), func(t *testing.T) {
			t.Parallel()
			p := mustMake(t, source, Options{Boxes: box320, Format: format})
			if format == photo.WebP {
				// Its header lists the kinds of metadata, and its size.
				require.Equal(t, "VP8X", string(p.Bytes[12:16]))
				require.Zero(t, p.Bytes[20])
				require.EqualValues(t, len(p.Bytes)-8, binary.LittleEndian.Uint32(p.Bytes[4:]))
			}
			for _, trace := range []string{"Exif", "EXIF", "eXIf", "GPS", "Cam", "http", "xmp", "Photoshop", "secret", "ICC_PROFILE", "iCCP", "acsp"} {
				require.NotContains(t, string(p.Bytes), trace)
			}
			after, err := vips.NewImageFromBuffer(p.Bytes)
			require.NoError(t, err)
			defer after.Close()
			fields := strings.Join(after.GetFields(), " ")
			for _, f := range []string{"exif", "xmp", "iptc", "icc", "orientation"} {
				require.NotContains(t, fields, f)
			}
		})
	}
}

func TestMakeChecksOptions(t *testing.T) {
	t.Parallel()
	source := asPNG(t, solid(8, 8, red))
	for _, tt := range []struct {
		options Options
		words   string
	}{
		{Options{}, "no thumbnail size"},
		{Options{Boxes: []photo.Size{{Width: 0, Height: 5}}}, "0x5"},
		{Options{Boxes: []photo.Size{{Width: 5, Height: -1}}}, "5x-1"},
		{Options{Boxes: []photo.Size{{Width: 5, Height: photo.MaxDimension + 1}}}, "5x32768"},
		{Options{Boxes: box320, Format: "bmp"}, "bmp"},
		{Options{Boxes: box320, Quality: 101}, "101"},
		{Options{Boxes: box320, Quality: -1}, "-1"},
		{Options{Boxes: box320, MaxPixels: -1}, "-1"},
		{Options{Boxes: box320, MaxFrames: -1}, "-1"},
	} {
		_, err := Make(source, tt.options)
		requireFailure(t, err, photo.Internal, tt.words)
	}
}

// Whatever happens to a source, libvips must hold nothing afterwards. This one
// test is not parallel: it looks at the whole process.
func TestMakeLeaksNothing(t *testing.T) {
	good := [][]byte{
		withProfile(t, withOrientation(asJPEG(t, scene(300, 200), 80), 6), displayP3.icc()),
		asPNG(t, halfTransparent(300, 200)),
		asWebP(t, corners(300, 200)),
		asGIF(t, corners(300, 200), corners(300, 200)),
		asTIFF(t, corners(300, 200)),
		asHEIC(t, corners(64, 64)),
		asAVIF(t, corners(64, 64)),
	}
	require.Empty(t, leftInLibvips())
	// The garbage collector would close what Make forgets to.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	var tasks sync.WaitGroup
	for range 4 {
		tasks.Go(func() {
			for i := range 4 {
				for _, source := range good {
					format := photo.Formats[i%2] // JPEG and WebP: AVIF takes too long
					_, _ = Make(source, Options{Boxes: []photo.Size{{Width: 100, Height: 100}, {Width: 20, Height: 20}}, Format: format})
					_, _ = Make(source[:len(source)*i/4], Options{Boxes: box320, Format: format})
					_, _ = Make(source, Options{Boxes: box320, MaxPixels: 100})
				}
			}
		})
	}
	tasks.Wait()
	require.Empty(t, leftInLibvips())
}
