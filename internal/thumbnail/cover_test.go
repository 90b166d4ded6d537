package thumbnail

import (
	"bytes"
	"flag"
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/davidbyttow/govips/v2/vips"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

var update = flag.Bool("update", false, "write the golden pictures")

// plainAndDetailed returns a picture whose left half is plain and whose right
// half has fine detail in several colours.
func plainAndDetailed(width, height int) *image.NRGBA {
	random := rand.New(rand.NewPCG(1, 2))
	img := solid(width, height, blue)
	const cell = 10
	for y := 0; y < height; y += cell {
		for x := width / 2; x < width; x += cell {
			c := []image.Image{image.NewUniform(red), image.NewUniform(yellow), image.NewUniform(green)}[random.IntN(3)]
			draw.Draw(img, image.Rect(x, y, x+cell, y+cell), c, image.Point{}, draw.Src)
		}
	}
	return img
}

// TestMakeCoverGolden compares with committed pictures. -update writes them.
func TestMakeCoverGolden(t *testing.T) {
	t.Parallel()
	source := asPNG(t, plainAndDetailed(800, 400))
	golden := map[photo.Mode]image.Image{}
	for _, mode := range []photo.Mode{photo.Cover, photo.CoverCentre} {
		p := mustMake(t, source, Options{Boxes: []photo.Box{{Width: 100, Height: 100, Mode: mode}}, Format: photo.PNG})
		require.Equal(t, photo.Size{Width: 100, Height: 100}, p.Size)
		path := filepath.Join("testdata", fmt.Sprintf("%s.png", mode))
		if *update {
			require.NoError(t, os.WriteFile(path, p.Bytes, 0o644))
		}
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		golden[mode], err = png.Decode(bytes.NewReader(content))
		require.NoError(t, err)
		require.Less(t, difference(t, golden[mode], decoded(t, p)), 3.0, "%s", mode)
	}
	require.Greater(t, difference(t, golden[photo.Cover], golden[photo.CoverCentre]), 20.0, "the comparison distinguishes the modes")

	isPlain := func(img image.Image, u float64) bool { return at(img, u, 0.5).B > 150 }
	require.False(t, isPlain(golden[photo.Cover], 0.05), "the plain half is cropped away")
	require.True(t, isPlain(golden[photo.CoverCentre], 0.4), "the border of the halves is in the middle")
	require.False(t, isPlain(golden[photo.CoverCentre], 0.6))
}

func TestMakeCoverSizes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ width, height, wantWidth, wantHeight int }{
		{640, 480, 120, 63},
		{480, 640, 120, 63},
		{1500, 70, 120, 63},
		{100, 100, 100, 53}, // never enlarged
		{1000, 21, 40, 21},
		{1, 1000, 1, 1},
		{1000, 1, 2, 1},
		{1, 1, 1, 1},
	} {
		for name, source := range map[string][]byte{
			"PNG":  asPNG(t, solid(tt.width, tt.height, green)),
			"JPEG": asJPEG(t, solid(tt.width, tt.height, green), 90),
			"WebP": asWebP(t, solid(tt.width, tt.height, green)),
		} {
			for _, mode := range []photo.Mode{photo.Cover, photo.CoverCentre} {
				p := mustMake(t, source, Options{Boxes: []photo.Box{{Width: 120, Height: 63, Mode: mode}}})
				require.Equal(t, photo.Size{Width: tt.wantWidth, Height: tt.wantHeight}, p.Size, "%s of %dx%d", name, tt.width, tt.height)
				img := decoded(t, p)
				require.Equal(t, p.Size, sizeIn(img))
				requireColour(t, green, at(img, 0.5, 0.5), 6)
			}
		}
	}
}

// TestMakeCoverOfPanorama has a JPEG of which the decoder must leave as many
// pixels as the height of the box needs.
func TestMakeCoverOfPanorama(t *testing.T) {
	t.Parallel()
	img := scene(6000, 200)
	middle := image.NewNRGBA(image.Rect(0, 0, 200, 200))
	draw.Draw(middle, middle.Rect, img, image.Pt(2900, 0), draw.Src)
	size := photo.Size{Width: 100, Height: 100}
	p := mustMake(t, asJPEG(t, img, 95), Options{Boxes: []photo.Box{{Width: 100, Height: 100, Mode: photo.CoverCentre}}})
	require.Equal(t, size, p.Size)
	require.Less(t, difference(t, average(middle, size), decoded(t, p)), 4.0)
}

func TestMakeCoverOfEveryKind(t *testing.T) {
	t.Parallel()
	img, other := corners(320, 240), solid(320, 240, white)
	cmyk := vipsImage(t, img)
	require.NoError(t, cmyk.ToColorSpace(vips.InterpretationCMYK))
	for name, source := range map[string][]byte{
		"CMYK JPEG":    export(t, cmyk, (*vips.ImageRef).ExportJpeg, vips.JpegExportParams{Quality: 95}),
		"WebP":         asWebP(t, img),
		"animated GIF": asGIF(t, img, other),
		"TIFF":         asTIFF(t, img),
		"HEIC":         asHEIC(t, img),
		"AVIF":         asAVIF(t, img),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := mustMake(t, source, Options{Boxes: []photo.Box{{Width: 90, Height: 90, Mode: photo.CoverCentre}}})
			require.Equal(t, photo.Size{Width: 90, Height: 90}, p.Size)
			tolerance := 10.0
			if name == "CMYK JPEG" {
				tolerance = 60 // inks reach fewer colours
			}
			requireCorners(t, decoded(t, p), tolerance)
			p = mustMake(t, source, Options{Boxes: []photo.Box{{Width: 90, Height: 90, Mode: photo.Cover}}})
			require.Equal(t, photo.Size{Width: 90, Height: 90}, sizeIn(decoded(t, p)))
		})
	}
}

func TestMakeCoverKeepsTransparency(t *testing.T) {
	t.Parallel()
	source := asPNG(t, halfTransparent(320, 240))
	for format, right := range map[photo.Format]uint8{photo.PNG: 0, photo.WebP: 0, photo.JPEG: 255} {
		p := mustMake(t, source, Options{Boxes: []photo.Box{{Width: 80, Height: 80, Mode: photo.CoverCentre}}, Format: format})
		img := decoded(t, p)
		requireColour(t, red, at(img, 0.2, 0.5), 10)
		require.Equal(t, right, at(img, 0.8, 0.5).A, "%s", format)
		mustMake(t, source, Options{Boxes: []photo.Box{{Width: 80, Height: 80, Mode: photo.Cover}}, Format: format})
	}
	grey := image.NewGray(image.Rect(0, 0, 320, 240))
	mustMake(t, asPNG(t, grey), Options{Boxes: []photo.Box{{Width: 80, Height: 80, Mode: photo.Cover}}})
}

// TestMakeUsesTheFirstBoxOfASize has boxes that lead to the same size with
// different crops.
func TestMakeUsesTheFirstBoxOfASize(t *testing.T) {
	t.Parallel()
	source := asPNG(t, plainAndDetailed(800, 400))
	cover := photo.Box{Width: 100, Height: 100, Mode: photo.Cover}
	centre := photo.Box{Width: 100, Height: 100, Mode: photo.CoverCentre}
	for _, boxes := range [][]photo.Box{{cover, centre}, {centre, cover}} {
		want := mustMake(t, source, Options{Boxes: boxes[:1]})
		require.Equal(t, want, mustMake(t, source, Options{Boxes: boxes}))
	}
}

// TestMakeMixesModes makes thumbnails from bitmaps of other thumbnails.
func TestMakeMixesModes(t *testing.T) {
	t.Parallel()
	img := scene(600, 400)
	boxes := []photo.Box{{Width: 50, Height: 50, Mode: photo.CoverCentre}, {Width: 300, Height: 300}, {Width: 60, Height: 60}, {Width: 400, Height: 80, Mode: photo.Cover}}
	thumbnails, err := makeThumbnails(asJPEG(t, img, 95), Options{Boxes: boxes})
	require.NoError(t, err)
	var sizes []string
	for _, p := range thumbnails {
		sizes = append(sizes, p.Size.String())
		require.Equal(t, p.Size, sizeIn(decoded(t, p)))
	}
	require.Equal(t, []string{"400x80", "300x200", "60x40", "50x50"}, sizes)
	square := image.NewNRGBA(image.Rect(0, 0, 400, 400))
	draw.Draw(square, square.Rect, img, image.Pt(100, 0), draw.Src)
	require.Less(t, difference(t, average(square, thumbnails[3].Size), decoded(t, thumbnails[3])), 5.0)
}

// TestMakeLimitsTheMemoryOfCovers has a panorama that covers its box with many
// times the box's pixels.
func TestMakeLimitsTheMemoryOfCovers(t *testing.T) {
	t.Parallel()
	source := asPNG(t, solid(6000, 100, green))
	for _, box := range []photo.Box{{Width: 100, Height: 100}, {Width: 100, Height: 100, Mode: photo.Cover}} {
		mustMake(t, source, Options{Boxes: []photo.Box{box}, MaxMemory: 10_000_000})
	}
	_, err := Make(source, Options{Boxes: []photo.Box{{Width: 100, Height: 100, Mode: photo.Cover}}, MaxMemory: 500_000})
	requireFailure(t, err, photo.ImageTooLarge, "memory")
	mustMake(t, source, Options{Boxes: []photo.Box{{Width: 100, Height: 100}}, MaxMemory: 500_000})
}
