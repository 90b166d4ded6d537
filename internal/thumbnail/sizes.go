package thumbnail

import (
	"cmp"
	"slices"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// targetSizes returns the sizes of a picture's thumbnails, largest first and
// without duplicates. All have the picture's aspect ratio, so each is at least
// as wide and as high as the next.
func targetSizes(picture photo.Size, boxes []photo.Size) []photo.Size {
	sizes := make([]photo.Size, len(boxes))
	for i, box := range boxes {
		sizes[i] = fit(picture, box)
	}
	slices.SortFunc(sizes, func(a, b photo.Size) int {
		return cmp.Or(cmp.Compare(b.Width, a.Width), cmp.Compare(b.Height, a.Height))
	})
	return slices.Compact(sizes)
}

// fit returns the largest size of the picture's aspect ratio that lies within
// the box and does not enlarge the picture. Integers suffice: the limits on
// both sizes keep the products far below an int's.
func fit(picture, box photo.Size) photo.Size {
	if picture.Width <= box.Width && picture.Height <= box.Height {
		return picture
	}
	if picture.Width*box.Height >= picture.Height*box.Width {
		return photo.Size{Width: box.Width, Height: scale(picture.Height, box.Width, picture.Width)}
	}
	return photo.Size{Width: scale(picture.Width, box.Height, picture.Height), Height: box.Height}
}

// scale returns side*numerator/denominator, rounded to the nearest integer, and
// at least 1.
func scale(side, numerator, denominator int) int {
	return max(1, (2*side*numerator+denominator)/(2*denominator))
}
