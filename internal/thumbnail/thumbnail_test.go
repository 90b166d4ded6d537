package thumbnail

import (
	"encoding/binary"
	"image"
	"runtime/debug"
	"strings"
	"sync"
	"testing"

	"github.com/davidbyttow/govips/v2/vips"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

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
			p := mustMake(t, source, Options{Boxes: []photo.Box{{Width: 100, Height: 100}}})
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

// TestMakeShowsTheSource compares thumbnails of a detailed picture with
// references that are made without libvips.
func TestMakeShowsTheSource(t *testing.T) {
	t.Parallel()
	img := scene(600, 400)
	want := map[photo.Size]*image.NRGBA{}
	var boxes []photo.Box
	for _, side := range []int{60, 300, 140} {
		boxes = append(boxes, photo.Box{Width: side, Height: side})
		size := photo.Size{Width: side, Height: (side*2 + 1) / 3}
		want[size] = average(img, size)
	}
	for name, source := range map[string][]byte{
		"JPEG": asJPEG(t, img, 95), // the decoder preshrinks
		"WebP": asWebP(t, img),     // the decoder preshrinks
		"PNG":  asPNG(t, img),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// With all boxes, each thumbnail is shrunk from the previous one;
			// with one box, from the decoder's output.
			for _, boxes := range [][]photo.Box{boxes, boxes[:1]} {
				thumbnails, err := makeThumbnails(source, Options{Boxes: boxes})
				require.NoError(t, err)
				require.Len(t, thumbnails, len(boxes))
				for _, p := range thumbnails {
					require.Less(t, difference(t, want[p.Size], decoded(t, p)), 4.0, "%s", p.Size)
				}
			}
		})
	}
	// The comparison must fail for other pictures.
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
	boxes := []photo.Box{{Width: 160, Height: 160}}
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

// TestMakeStripsMetadata requires that only pixels of the source reach a
// thumbnail.
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
		require.Contains(t, fields, f, "the source must have the metadata")
	}

	for _, format := range photo.Formats {
		t.Run(string(format), func(t *testing.T) {
			t.Parallel()
			p := mustMake(t, source, Options{Boxes: box320, Format: format})
			if format == photo.WebP {
				// The header has flags for the kinds of metadata, and the file
				// size.
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
		{Options{Boxes: []photo.Box{{Width: 0, Height: 5}}}, "0x5"},
		{Options{Boxes: []photo.Box{{Width: 5, Height: -1}}}, "5x-1"},
		{Options{Boxes: []photo.Box{{Width: 5, Height: photo.MaxDimension + 1}}}, "5x32768"},
		{Options{Boxes: box320, Format: "bmp"}, "bmp"},
		{Options{Boxes: box320, Quality: 101}, "101"},
		{Options{Boxes: box320, Quality: -1}, "-1"},
		{Options{Boxes: box320, MaxPixels: -1}, "-1"},
		{Options{Boxes: box320, MaxFrames: -1}, "-1"},
		{Options{Boxes: box320, MaxMemory: -1}, "-1"},
	} {
		_, err := Make(source, tt.options)
		requireFailure(t, err, photo.Internal, tt.words)
	}
}

// TestMakeLeaksNothing requires that libvips holds no memory after successes
// and failures. It is not parallel: it measures the whole process.
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
	// The garbage collector would close images that Make does not.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	var tasks sync.WaitGroup
	for range 4 {
		tasks.Go(func() {
			for i := range 4 {
				for _, source := range good {
					format := photo.Formats[i%2] // JPEG and WebP; AVIF is too slow
					_, _ = Make(source, Options{Boxes: []photo.Box{{Width: 100, Height: 100}, {Width: 20, Height: 20}}, Format: format})
					_, _ = Make(source[:len(source)*i/4], Options{Boxes: box320, Format: format})
					_, _ = Make(source, Options{Boxes: box320, MaxPixels: 100})
				}
			}
		})
	}
	tasks.Wait()
	require.Empty(t, leftInLibvips())
}
