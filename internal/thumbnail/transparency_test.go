package thumbnail

import (
	"fmt"
	"image"
	"image/color"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

func TestMakeTransparency(t *testing.T) {
	t.Parallel()
	img := halfTransparent(160, 120)
	palette := image.NewPaletted(image.Rect(0, 0, 160, 120), color.Palette{seeThrough, red})
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
				boxes := []photo.Box{{Width: 80, Height: 80}, {Width: 40, Height: 40}}
				thumbnails, err := makeThumbnails(source, Options{Boxes: boxes, Format: format})
				require.NoError(t, err)
				for _, p := range thumbnails {
					got := decoded(t, p)
					requireColour(t, red, at(got, 0.25, 0.5), 10)
					if format == photo.JPEG {
						requireColour(t, white, at(got, 0.75, 0.5), 6)
					} else {
						requireColour(t, seeThrough, at(got, 0.75, 0.5), 6)
					}
				}
			})
		}
	}
}

// TestMakeBlendsTransparency expects pink for half-transparent red on white,
// and that a shrink ignores the colour of invisible pixels.
func TestMakeBlendsTransparency(t *testing.T) {
	t.Parallel()
	veil := color.NRGBA{R: 255, A: 128}
	p := mustMake(t, asPNG(t, solid(640, 480, veil)), Options{Boxes: box320})
	requireColour(t, color.NRGBA{R: 255, G: 127, B: 127, A: 255}, at(decoded(t, p), 0.5, 0.5), 3)

	stripes := solid(640, 480, red)
	for y := range 480 {
		for x := range 640 {
			if x%4 >= 2 {
				stripes.SetNRGBA(x, y, color.NRGBA{G: 255}) // invisible green
			}
		}
	}
	p = mustMake(t, asPNG(t, stripes), Options{Boxes: []photo.Box{{Width: 80, Height: 80}}, Format: photo.PNG})
	got := at(decoded(t, p), 0.5, 0.5)
	require.InDelta(t, 128, got.A, 6)
	got.A = 255
	requireColour(t, red, got, 6)
}
