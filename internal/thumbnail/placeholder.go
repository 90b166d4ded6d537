package thumbnail

import (
	"image"
	"image/color"

	"github.com/davidbyttow/govips/v2/vips"
	"go.n16f.net/thumbhash"

	"github.com/photo-processor/photo-processor/internal/photo"
)

const (
	// hashedSide is the longer side of the picture that is hashed, in pixels. A
	// hash has no more than seven waves in each direction, so that more pixels
	// would hardly change it.
	hashedSide = 32

	// minHashedSide is the shorter side at least, because a hash has three waves
	// in each direction.
	minHashedSide = 4
)

// placeholder returns the ThumbHash of the bitmap.
func placeholder(bitmap *vips.ImageRef) ([]byte, error) {
	pixels, err := bitmap.ToBytes()
	if err != nil {
		return nil, internalFailure("hashed", err)
	}
	defer clear(pixels)
	size := sizeOf(bitmap)
	longer := max(size.Width, size.Height)
	img := averages(pixels, size, bitmap.Bands(), photo.Size{
		Width:  max(minHashedSide, size.Width*hashedSide/longer),
		Height: max(minHashedSide, size.Height*hashedSide/longer),
	})
	defer clear(img.Pix)
	return thumbhash.EncodeImage(img), nil
}

// averages returns the picture in another size. Each pixel is the average of
// those that it replaces, or a copy if the picture is enlarged. For so few
// pixels, a resize by libvips takes ten times as long.
//
// An image.RGBA usually has colours that are multiplied by alpha. These are not:
// the encoder of ThumbHash takes them as they are, and multiplies by alpha.
func averages(pixels []byte, from photo.Size, bands int, to photo.Size) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, to.Width, to.Height))
	for y := range to.Height {
		top := y * from.Height / to.Height
		bottom := max(top+1, (y+1)*from.Height/to.Height)
		for x := range to.Width {
			left := x * from.Width / to.Width
			right := max(left+1, (x+1)*from.Width/to.Width)
			img.SetRGBA(x, y, averageColour(pixels, from.Width, bands, image.Rect(left, top, right, bottom)))
		}
	}
	return img
}

// averageColour returns the average of an area of a picture that is width pixels
// wide. A pixel's colour counts as much as it is opaque.
func averageColour(pixels []byte, width, bands int, area image.Rectangle) color.RGBA {
	var red, green, blue, alpha int
	for y := area.Min.Y; y < area.Max.Y; y++ {
		for rest := pixels[(y*width+area.Min.X)*bands : (y*width+area.Max.X)*bands]; len(rest) > 0; rest = rest[bands:] {
			r, g, b, a := int(rest[0]), int(rest[0]), int(rest[0]), 255
			if bands >= 3 {
				g, b = int(rest[1]), int(rest[2])
			}
			if bands == 4 {
				a = int(rest[3])
			}
			red, green, blue, alpha = red+r*a, green+g*a, blue+b*a, alpha+a
		}
	}
	opacity := max(1, alpha)
	return color.RGBA{uint8(red / opacity), uint8(green / opacity), uint8(blue / opacity), uint8(alpha / (area.Dx() * area.Dy()))}
}
