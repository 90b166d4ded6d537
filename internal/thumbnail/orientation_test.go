package thumbnail

import (
	"fmt"
	"image"
	"testing"

	"github.com/davidbyttow/govips/v2/vips"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// TestMakeTurnsUpright makes the same thumbnails and placeholder of all eight orientations of a
// picture.
func TestMakeTurnsUpright(t *testing.T) {
	t.Parallel()
	const w, h = 640, 400
	upright := corners(w, h)
	// Functions from a stored pixel to its place in the upright picture.
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
	boxes := []photo.Box{{Width: 320, Height: 320}, {Width: 999, Height: 50}, {Width: 120, Height: 60, Mode: photo.CoverCentre}}
	want, err := Make(asJPEG(t, upright, 95), Options{Boxes: boxes})
	require.NoError(t, err)
	require.Len(t, want.Thumbnails, 3)

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
			made, err := Make(withOrientation(asJPEG(t, stored, 95), orientation), Options{Boxes: boxes})
			require.NoError(t, err)
			require.Len(t, made.Thumbnails, 3)
			for i, p := range made.Thumbnails {
				require.Equal(t, want.Thumbnails[i].Size, p.Size)
				img := decoded(t, p)
				requireCorners(t, img, 10)
				require.Less(t, difference(t, decoded(t, want.Thumbnails[i]), img), 1.5)
			}
			require.Less(t, difference(t, decodedHash(t, want.Placeholder), decodedHash(t, made.Placeholder)), 10.0)
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

// TestMakeTurnsHEICOnce has a HEIC whose decoder already applies the
// orientation of the container. The EXIF orientation repeats it and must be
// ignored.
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
