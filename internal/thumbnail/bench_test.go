package thumbnail

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

func BenchmarkMake(b *testing.B) {
	source := asJPEG(b, scene(3000, 2000), 90)
	for _, format := range photo.Formats {
		for _, boxes := range [][]photo.Box{box320, {{Width: 1024, Height: 1024}, {Width: 320, Height: 320}, {Width: 128, Height: 128}}} {
			b.Run(fmt.Sprintf("%s-%d", format, len(boxes)), func(b *testing.B) {
				for b.Loop() {
					_, err := Make(source, Options{Boxes: boxes, Format: format})
					require.NoError(b, err)
				}
			})
		}
	}
}

// BenchmarkMakeModes compares the modes of boxes.
func BenchmarkMakeModes(b *testing.B) {
	source := asJPEG(b, scene(3000, 2000), 90)
	for _, mode := range []photo.Mode{photo.Fit, photo.Cover, photo.CoverCentre} {
		box := photo.Box{Width: 320, Height: 320, Mode: mode}
		b.Run(box.String(), func(b *testing.B) {
			for b.Loop() {
				_, err := Make(source, Options{Boxes: []photo.Box{box}})
				require.NoError(b, err)
			}
		})
	}
}

// BenchmarkMakeFrom compares the kinds of sources.
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
