package thumbnail

import (
	"bytes"
	"slices"
	"testing"

	"github.com/davidbyttow/govips/v2/vips"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// FuzzMake checks that Make returns for any bytes, with a failure that blames
// the source or with valid thumbnails of the recorded sizes.
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

	boxes := []photo.Box{{Width: 16, Height: 16}, {Width: 30, Height: 5}, {Width: 12, Height: 20, Mode: photo.Cover}}
	f.Fuzz(func(t *testing.T, source []byte) {
		made, err := Make(source, Options{Boxes: boxes, MaxPixels: 1 << 20, MaxFrames: 100})
		if err != nil {
			var failure *photo.Failure
			require.ErrorAs(t, err, &failure)
			require.Contains(t, []photo.Code{photo.UnsupportedImage, photo.CorruptImage, photo.ImageTooLarge}, failure.Code, "%s", failure.Message)
			require.Empty(t, made)
			return
		}
		require.NotEmpty(t, made.Thumbnails)
		for i, p := range made.Thumbnails {
			require.Equal(t, p.Size, sizeIn(decoded(t, p)))
			require.True(t, slices.ContainsFunc(boxes, func(box photo.Box) bool { return box.Admits(p.Size) }), "%s", p.Size)
			if i > 0 {
				before := made.Thumbnails[i-1].Size
				require.Negative(t, compareSizes(p.Size, before), "%s after %s", p.Size, before)
			}
		}
		require.LessOrEqual(t, len(made.Placeholder), photo.MaxPlaceholder)
		decodedHash(t, made.Placeholder)
	})
}
