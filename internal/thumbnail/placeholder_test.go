package thumbnail

import (
	"image"
	"image/color"
	"testing"

	"github.com/stretchr/testify/require"
	"go.n16f.net/thumbhash"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// decodedHash returns the picture that a placeholder shows.
func decodedHash(t testing.TB, hash []byte) image.Image {
	t.Helper()
	img, err := thumbhash.DecodeImageWithCfg(hash, thumbhash.DecodingCfg{SaturationBoost: 1})
	require.NoError(t, err)
	return img
}

func mustHash(t testing.TB, source []byte, o Options) image.Image {
	t.Helper()
	made, err := Make(source, o)
	require.NoError(t, err)
	require.LessOrEqual(t, len(made.Placeholder), photo.MaxPlaceholder)
	return decodedHash(t, made.Placeholder)
}

func TestPlaceholderShowsTheColours(t *testing.T) {
	t.Parallel()
	for _, c := range []color.NRGBA{red, green, blue, yellow, white} {
		img := mustHash(t, asPNG(t, solid(64, 48, c)), Options{Boxes: box320})
		requireColour(t, c, at(img, 0.5, 0.5), 12)
	}
	grey := image.NewGray(image.Rect(0, 0, 64, 48))
	for i := range grey.Pix {
		grey.Pix[i] = 100
	}
	requireColour(t, color.NRGBA{100, 100, 100, 255}, at(mustHash(t, asPNG(t, grey), Options{Boxes: box320}), 0.5, 0.5), 6)
}

// TestPlaceholderShowsThePicture compares placeholders with the picture in the
// same few pixels. What they show does not depend on the thumbnails.
func TestPlaceholderShowsThePicture(t *testing.T) {
	t.Parallel()
	upright := corners(600, 400)
	for _, boxes := range [][]photo.Box{
		box320,
		{{Width: 1000, Height: 1000}},
		{{Width: 20, Height: 20}},
		{{Width: 100, Height: 300, Mode: photo.Cover}, {Width: 300, Height: 300}},
	} {
		img := mustHash(t, asJPEG(t, upright, 95), Options{Boxes: boxes})
		want := average(upright, sizeIn(img))
		require.Less(t, difference(t, want, img), 35.0, "a hash has no sharp edges")
		mirrored := corners(600, 400)
		for y := range 400 {
			for x := range 600 {
				mirrored.SetNRGBA(x, y, upright.NRGBAAt(599-x, y))
			}
		}
		require.Greater(t, difference(t, average(mirrored, sizeIn(img)), img), 60.0, "the comparison must fail for another picture")
	}
}

// TestPlaceholderKeepsTransparency has a picture that is half transparent, and
// one that is everywhere translucent.
func TestPlaceholderKeepsTransparency(t *testing.T) {
	t.Parallel()
	half := asPNG(t, halfTransparent(64, 48))
	img := mustHash(t, half, Options{Boxes: box320, Format: photo.PNG})
	require.Greater(t, at(img, 0.1, 0.5).A, uint8(200))
	require.Less(t, at(img, 0.9, 0.5).A, uint8(55))
	img = mustHash(t, half, Options{Boxes: box320}) // JPEG: on white
	requireColour(t, white, at(img, 0.9, 0.5), 40)

	made, err := Make(asPNG(t, solid(64, 48, color.NRGBA{200, 100, 40, 85})), Options{Boxes: box320, Format: photo.PNG})
	require.NoError(t, err)
	var hash thumbhash.Hash
	require.NoError(t, hash.Decode(made.Placeholder, &thumbhash.DecodingCfg{}))
	require.InDelta(t, 85.0/255, hash.ADC, 0.04)
	require.InDelta(t, (200.0+100+40)/3/255, hash.LDC, 0.02, "colours are not multiplied by alpha")
}

func TestPlaceholderOfExtremeSizes(t *testing.T) {
	t.Parallel()
	for _, size := range []photo.Size{{Width: 1, Height: 1}, {Width: 1, Height: 3000}, {Width: 3000, Height: 1}, {Width: 2, Height: 31}} {
		img := mustHash(t, asPNG(t, solid(size.Width, size.Height, green)), Options{Boxes: box320})
		requireColour(t, green, at(img, 0.5, 0.5), 12)
	}
}

// BenchmarkPlaceholder measures what the placeholder adds to the default
// thumbnail.
func BenchmarkPlaceholder(b *testing.B) {
	require.NoError(b, Startup())
	thumbnail, err := materialize(vipsImage(b, scene(320, 213)))
	require.NoError(b, err)
	defer thumbnail.Close()
	for b.Loop() {
		_, err = placeholder(thumbnail)
		require.NoError(b, err)
	}
}
