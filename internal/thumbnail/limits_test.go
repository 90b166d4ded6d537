package thumbnail

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"testing"

	"github.com/davidbyttow/govips/v2/vips"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

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

// TestMakeRefusesPixelBombs is not parallel: it measures the peak of libvips'
// memory.
func TestMakeRefusesPixelBombs(t *testing.T) {
	for name, source := range bombs(t) {
		t.Run(name, func(t *testing.T) {
			_, err := Make(source, Options{Boxes: box320})
			switch name {
			case "HEIC", "AVIF": // libheif has its own limit and does not report the size
				requireFailure(t, err, photo.ImageTooLarge, name)
			default:
				requireFailure(t, err, photo.ImageTooLarge, "the picture has 3600000000 pixels (60000x60000); the limit is 250000000 (IMAGE_MAX_PIXELS)")
			}
		})
	}
	var stats vips.MemoryStats
	vips.ReadVipsMemStats(&stats)
	require.Less(t, stats.MemHigh, int64(100<<20), "memory for 60000x60000 pixels must not be allocated")
}

func TestMakeLimits(t *testing.T) {
	t.Parallel()
	source := asPNG(t, solid(100, 50, red))
	mustMake(t, source, Options{Boxes: box320, MaxPixels: 5000})
	_, err := Make(source, Options{Boxes: box320, MaxPixels: 4999})
	requireFailure(t, err, photo.ImageTooLarge, "the picture has 5000 pixels (100x50); the limit is 4999 (IMAGE_MAX_PIXELS)")

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
			requireFailure(t, err, photo.ImageTooLarge, "the picture has 5 frames; the limit is 4 (IMAGE_MAX_FRAMES)")
			// The limit on pixels applies to one frame.
			mustMake(t, source, Options{Boxes: box320, MaxPixels: 400})
		})
	}
}

// TestMakeLimitsMemory has pictures that are decoded as a whole, with the
// memory that this takes at least, and some that are decoded in rows.
func TestMakeLimitsMemory(t *testing.T) {
	t.Parallel()
	img := scene(400, 300)
	const pixels = 400 * 300
	for name, tt := range map[string]struct {
		source []byte
		need   int64
	}{
		"progressive JPEG": {export(t, vipsImage(t, img), (*vips.ImageRef).ExportJpeg, vips.JpegExportParams{Interlace: true, Quality: 90, SubsampleMode: vips.VipsForeignSubsampleOff}), 2 * 3 * pixels},
		"subsampled JPEG":  {export(t, vipsImage(t, img), (*vips.ImageRef).ExportJpeg, vips.JpegExportParams{Interlace: true, Quality: 80}), 2 * 3 * pixels / 2},
		"interlaced PNG":   {export(t, vipsImage(t, img), (*vips.ImageRef).ExportPng, vips.PngExportParams{Interlace: true, Compression: 1}), 4 * pixels},
		"animated WebP":    {export(t, animation(t, img, corners(400, 300)), (*vips.ImageRef).ExportWebp, quickWebP), 4 * pixels},
		"GIF":              {asGIF(t, img), 5 * pixels},
		"HEIC":             {asHEIC(t, img), 7 * pixels},
		"AVIF":             {asAVIF(t, img), 7 * pixels},
		"JPEG, in rows":    {asJPEG(t, img, 90), 0},
		"PNG, in rows":     {asPNG(t, img), 0},
		"WebP, in rows":    {asWebP(t, img), 0},
		"TIFF, in strips":  {asTIFF(t, img), 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.need == 0 {
				mustMake(t, tt.source, Options{Boxes: box320, MaxMemory: 1})
				return
			}
			mustMake(t, tt.source, Options{Boxes: box320, MaxMemory: tt.need})
			_, err := Make(tt.source, Options{Boxes: box320, MaxMemory: tt.need - 1})
			requireFailure(t, err, photo.ImageTooLarge, "400x300", "MB of memory; the limit is", "RENDER_MAX_MEMORY")
		})
	}
}
