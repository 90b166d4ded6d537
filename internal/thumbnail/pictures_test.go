package thumbnail

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/draw"
	"image/gif"
	"image/jpeg"
	"image/png"
	"math"
	"slices"
	"testing"

	"github.com/davidbyttow/govips/v2/vips"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// The test pictures are generated, so that the code shows what they and their
// thumbnails contain.

var (
	red        = color.NRGBA{R: 220, G: 30, B: 30, A: 255}
	green      = color.NRGBA{R: 20, G: 160, B: 60, A: 255}
	blue       = color.NRGBA{R: 30, G: 60, B: 200, A: 255}
	yellow     = color.NRGBA{R: 240, G: 210, B: 40, A: 255}
	white      = color.NRGBA{R: 255, G: 255, B: 255, A: 255}
	seeThrough = color.NRGBA{}
)

// solid returns a picture of one colour.
func solid(width, height int, c color.Color) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	draw.Draw(img, img.Bounds(), image.NewUniform(c), image.Point{}, draw.Src)
	return img
}

// quarters returns a picture of four colours: top left and right, bottom left
// and right.
func quarters(width, height int, colours [4]color.NRGBA) *image.NRGBA {
	img := solid(width, height, colours[0])
	draw.Draw(img, image.Rect(width/2, 0, width, height/2), image.NewUniform(colours[1]), image.Point{}, draw.Src)
	draw.Draw(img, image.Rect(0, height/2, width/2, height), image.NewUniform(colours[2]), image.Point{}, draw.Src)
	draw.Draw(img, image.Rect(width/2, height/2, width, height), image.NewUniform(colours[3]), image.Point{}, draw.Src)
	return img
}

// corners returns a picture that shows how it was rotated or mirrored.
func corners(width, height int) *image.NRGBA {
	return quarters(width, height, [4]color.NRGBA{red, green, blue, yellow})
}

// scene returns a picture with gradients, edges and fine detail, like photos.
func scene(width, height int) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			u, v := float64(x)/float64(width), float64(y)/float64(height)
			c := color.NRGBA{R: uint8(255 * u), G: uint8(255 * v), B: uint8(255 * (1 - u)), A: 255}
			if math.Hypot(u-0.5, v-0.5) < 0.25 {
				c.R, c.G, c.B = 250, 240, 230
			}
			ripple := 12 * math.Sin(float64(x*x+y*y)/997)
			c.G = uint8(max(0, min(255, float64(c.G)+ripple)))
			img.SetNRGBA(x, y, c)
		}
	}
	return img
}

// halfTransparent returns a picture that is red on the left and transparent on
// the right.
func halfTransparent(width, height int) *image.NRGBA {
	img := solid(width, height, seeThrough)
	draw.Draw(img, image.Rect(0, 0, width/2, height), image.NewUniform(red), image.Point{}, draw.Src)
	return img
}

func asJPEG(t testing.TB, img image.Image, quality int) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, jpeg.Encode(&b, img, &jpeg.Options{Quality: quality}))
	return b.Bytes()
}

func asPNG(t testing.TB, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, png.Encode(&b, img))
	return b.Bytes()
}

// asGIF encodes the frames as an animation.
func asGIF(t testing.TB, frames ...image.Image) []byte {
	t.Helper()
	palette := color.Palette{seeThrough, red, green, blue, yellow, white}
	var animation gif.GIF
	for _, frame := range frames {
		paletted := image.NewPaletted(frame.Bounds(), palette)
		draw.Draw(paletted, frame.Bounds(), frame, frame.Bounds().Min, draw.Src)
		animation.Image = append(animation.Image, paletted)
		animation.Delay = append(animation.Delay, 10)
	}
	var b bytes.Buffer
	require.NoError(t, gif.EncodeAll(&b, &animation))
	return b.Bytes()
}

// vipsImage converts the picture to an image of libvips.
func vipsImage(t testing.TB, img image.Image) *vips.ImageRef {
	t.Helper()
	ref, err := vips.NewImageFromGoImage(img)
	require.NoError(t, err)
	return ref
}

// animation converts the frames to an image of libvips with several pages.
func animation(t testing.TB, frames ...image.Image) *vips.ImageRef {
	t.Helper()
	params := vips.NewImportParams()
	params.NumPages.Set(-1)
	ref, err := vips.LoadImageFromBuffer(asGIF(t, frames...), params)
	require.NoError(t, err)
	return ref
}

// export encodes the picture, with one of govips' Export methods, and closes
// it.
func export[P any](t testing.TB, ref *vips.ImageRef, method func(*vips.ImageRef, *P) ([]byte, *vips.ImageMetadata, error), params P) []byte {
	t.Helper()
	defer ref.Close()
	b, _, err := method(ref, &params)
	require.NoError(t, err)
	return b
}

// Parameters that make encoders fast.
var (
	quickWebP = vips.WebpExportParams{Quality: 90, ReductionEffort: 2}
	quickHEIC = vips.HeifExportParams{Quality: 90, Bitdepth: 8, Effort: 1}
	quickAVIF = vips.AvifExportParams{Quality: 90, Bitdepth: 8, Effort: 1}
	plainTIFF = vips.TiffExportParams{Compression: vips.TiffCompressionNone, Predictor: vips.TiffPredictorNone}
)

func asWebP(t testing.TB, img image.Image) []byte {
	t.Helper()
	return export(t, vipsImage(t, img), (*vips.ImageRef).ExportWebp, quickWebP)
}

func asTIFF(t testing.TB, img image.Image) []byte {
	t.Helper()
	return export(t, vipsImage(t, img), (*vips.ImageRef).ExportTiff, plainTIFF)
}

func asHEIC(t testing.TB, img image.Image) []byte {
	t.Helper()
	return export(t, vipsImage(t, img), (*vips.ImageRef).ExportHeif, quickHEIC)
}

func asAVIF(t testing.TB, img image.Image) []byte {
	t.Helper()
	return export(t, vipsImage(t, img), (*vips.ImageRef).ExportAvif, quickAVIF)
}

// withSegment inserts a segment, such as APP1, right after a JPEG's first
// marker.
func withSegment(source []byte, marker byte, body []byte) []byte {
	segment := []byte{0xff, marker}
	segment = binary.BigEndian.AppendUint16(segment, uint16(len(body)+2))
	return slices.Concat(source[:2], segment, body, source[2:])
}

// withOrientation adds an EXIF segment with the orientation and a GPS position
// to a JPEG.
func withOrientation(source []byte, orientation uint16) []byte {
	be := binary.BigEndian
	exif := []byte("Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08")
	entry := func(tag, kind uint16, count uint32, value ...byte) {
		exif = be.AppendUint16(exif, tag)
		exif = be.AppendUint16(exif, kind)
		exif = be.AppendUint32(exif, count)
		exif = append(exif, value...)
	}
	exif = be.AppendUint16(exif, 3)
	entry(0x010f, 2, 4, 'C', 'a', 'm', 0)                              // Make
	entry(0x0112, 3, 1, byte(orientation>>8), byte(orientation), 0, 0) // Orientation
	entry(0x8825, 4, 1, 0, 0, 0, 50)                                   // GPS IFD, at 8+2+3*12+4
	exif = be.AppendUint32(exif, 0)
	exif = be.AppendUint16(exif, 1)
	entry(0x0001, 2, 2, 'N', 0, 0, 0) // GPSLatitudeRef
	exif = be.AppendUint32(exif, 0)
	return withSegment(source, 0xe1, exif)
}

// chunk returns a chunk of a PNG.
func chunk(kind string, body []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	b = append(append(b, kind...), body...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[4:]))
}

// withProfile embeds a colour profile in a JPEG or PNG.
func withProfile(t testing.TB, source, profile []byte) []byte {
	t.Helper()
	if hasSignature(source, "\xff\xd8") {
		parts := slices.Collect(slices.Chunk(profile, 60_000)) // a segment's limit is 65533
		for i, part := range slices.Backward(parts) {
			numbered := append([]byte("ICC_PROFILE\x00"), byte(i+1), byte(len(parts)))
			source = withSegment(source, 0xe2, append(numbered, part...))
		}
		return source
	}
	var packed bytes.Buffer
	w := zlib.NewWriter(&packed)
	_, err := w.Write(profile)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	const ihdr = 8 + 12 + 13
	return slices.Concat(source[:ihdr], chunk("iCCP", slices.Concat([]byte("p\x00\x00"), packed.Bytes())), source[ihdr:])
}

// decoded decodes the thumbnail: a JPEG or PNG with Go's decoders, others with
// libvips, because Go's decoder for WebP uses the colour conversion of JPEG.
func decoded(t testing.TB, p photo.EncodedThumbnail) image.Image {
	t.Helper()
	if !hasSignature(p.Bytes, "RIFF") && !hasSignature(p.Bytes, "????ftyp") {
		img, _, err := image.Decode(bytes.NewReader(p.Bytes))
		require.NoError(t, err)
		return img
	}
	ref, err := vips.NewImageFromBuffer(p.Bytes)
	require.NoError(t, err)
	defer ref.Close()
	img, err := ref.ToGoImage()
	require.NoError(t, err)
	return img
}

func sizeIn(img image.Image) photo.Size {
	return photo.Size{Width: img.Bounds().Dx(), Height: img.Bounds().Dy()}
}

// at returns the colour at a position from 0 to 1 on both axes.
func at(img image.Image, u, v float64) color.NRGBA {
	b := img.Bounds()
	x := b.Min.X + min(b.Dx()-1, int(u*float64(b.Dx())))
	y := b.Min.Y + min(b.Dy()-1, int(v*float64(b.Dy())))
	return color.NRGBAModel.Convert(img.At(x, y)).(color.NRGBA)
}

// requireColour compares two colours channel by channel.
func requireColour(t testing.TB, want, got color.NRGBA, tolerance float64) {
	t.Helper()
	require.InDelta(t, want.A, got.A, tolerance, "alpha of %v; want %v", got, want)
	if want.A == 0 {
		return // the colour is invisible
	}
	require.InDelta(t, want.R, got.R, tolerance, "red of %v; want %v", got, want)
	require.InDelta(t, want.G, got.G, tolerance, "green of %v; want %v", got, want)
	require.InDelta(t, want.B, got.B, tolerance, "blue of %v; want %v", got, want)
}

// requireQuarters compares the middles of the four quarters.
func requireQuarters(t testing.TB, want [4]color.NRGBA, img image.Image, tolerance float64) {
	t.Helper()
	requireColour(t, want[0], at(img, 0.25, 0.25), tolerance)
	requireColour(t, want[1], at(img, 0.75, 0.25), tolerance)
	requireColour(t, want[2], at(img, 0.25, 0.75), tolerance)
	requireColour(t, want[3], at(img, 0.75, 0.75), tolerance)
}

// requireCorners requires the colours of corners.
func requireCorners(t testing.TB, img image.Image, tolerance float64) {
	t.Helper()
	requireQuarters(t, [4]color.NRGBA{red, green, blue, yellow}, img, tolerance)
}

// asNRGBA copies the picture to one with fast access to pixels.
func asNRGBA(img image.Image) *image.NRGBA {
	out := image.NewNRGBA(image.Rect(0, 0, img.Bounds().Dx(), img.Bounds().Dy()))
	draw.Draw(out, out.Rect, img, img.Bounds().Min, draw.Src)
	return out
}

// difference returns the mean absolute difference of the channels of two
// pictures of the same size, from 0 to 255.
func difference(t testing.TB, a, b image.Image) float64 {
	t.Helper()
	require.Equal(t, sizeIn(a), sizeIn(b))
	x, y := asNRGBA(a).Pix, asNRGBA(b).Pix
	sum := 0
	for i := range x {
		sum += max(int(x[i])-int(y[i]), int(y[i])-int(x[i]))
	}
	return float64(sum) / float64(len(x))
}

// average shrinks a picture by averaging areas, without libvips.
func average(img *image.NRGBA, size photo.Size) *image.NRGBA {
	out := image.NewNRGBA(image.Rect(0, 0, size.Width, size.Height))
	full := sizeIn(img)
	for y := range size.Height {
		for x := range size.Width {
			x0, x1 := x*full.Width/size.Width, (x+1)*full.Width/size.Width
			y0, y1 := y*full.Height/size.Height, (y+1)*full.Height/size.Height
			for channel := range 4 {
				sum := 0
				for sy := y0; sy < y1; sy++ {
					for sx := x0; sx < x1; sx++ {
						sum += int(img.Pix[img.PixOffset(sx, sy)+channel])
					}
				}
				out.Pix[out.PixOffset(x, y)+channel] = uint8(sum / ((x1 - x0) * (y1 - y0)))
			}
		}
	}
	return out
}
