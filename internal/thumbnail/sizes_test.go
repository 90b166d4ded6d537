package thumbnail

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

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
		// Boxes of other aspect ratios, neither of which contains the other.
		{"640x480", "600x30 50x400", "50x38 40x30"},
		// Boxes that lead to the same size share one thumbnail.
		{"500x500", "320x100 100x320", "100x100"},
		{"640x480", "320x320 320x240 320x9999", "320x240"},
		{"100x60", "320x320 1024x1024 50x50", "100x60 50x30"},
		{"640x480", "320x320 319x319", "320x240 319x239"},
	} {
		t.Run(tt.source+" "+tt.boxes, func(t *testing.T) {
			t.Parallel()
			size, err := photo.ParseSize(tt.source)
			require.NoError(t, err)
			var boxes []photo.Box
			for box := range strings.FieldsSeq(tt.boxes) {
				b, err := photo.ParseBox(box)
				require.NoError(t, err)
				boxes = append(boxes, b)
			}
			img := solid(size.Width, size.Height, green)
			for name, source := range map[string][]byte{
				"PNG":  asPNG(t, img),
				"JPEG": asJPEG(t, img, 90),
				"WebP": asWebP(t, img),
			} {
				thumbnails, err := makeThumbnails(source, Options{Boxes: boxes})
				require.NoError(t, err)
				var got []string
				for _, p := range thumbnails {
					got = append(got, p.Size.String())
					img := decoded(t, p)
					require.Equal(t, p.Size, sizeIn(img), "the recorded size is the encoded one")
					requireColour(t, green, at(img, 0.5, 0.5), 6)
				}
				require.Equal(t, tt.want, strings.Join(got, " "), "from %s", name)
			}
		})
	}
}
