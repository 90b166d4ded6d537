package thumbnail

import (
	"cmp"
	"slices"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// plan gives the sizes of the thumbnails of a picture, largest first, each once.
//
// All of them have the picture's shape, whatever the boxes' shapes are. So they
// differ in scale alone, and each is at least as wide and as high as the next.
func plan(picture photo.Size, boxes []photo.Size) []photo.Size {
	sizes := make([]photo.Size, len(boxes))
	for i, box := range boxes {
		sizes[i] = fit(picture, box)
	}
	slices.SortFunc(sizes, func(a, b photo.Size) int {
		return cmp.Or(cmp.Compare(b.Width, a.Width), cmp.Compare(b.Height, a.Height))
	})
	return slices.Compact(sizes)
}

// fit gives the largest size of the picture's shape that lies within the box
// and does not enlarge the picture. It is computed in whole numbers: the limits
// on both keep the products far inside an int.
func fit(picture, box photo.Size) photo.Size {
	if picture.Width <= box.Width && picture.Height <= box.Height {
		return picture
	}
	if picture.Width*box.Height >= picture.Height*box.Width {
		return photo.Size{Width: box.Width, Height: scale(picture.Height, box.Width, picture.Width)}
	}
	return photo.Size{Width: scale(picture.Width, box.Height, picture.Height), Height: box.Height}
}

// scale gives side*numerator/denominator to the nearest whole number, but never
// less than 1.
func scale(side, numerator, denominator int) int {
	return max(1, (2*side*numerator+denominator)/(2*denominator))
}
