package thumbnail

import (
	"cmp"
	"slices"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// target describes one thumbnail of a picture.
type target struct {
	size   photo.Size // of the thumbnail
	scaled photo.Size // of the whole picture, before it is cropped to size
	mode   photo.Mode
}

// newTargets returns the thumbnails of a picture, those with the largest scaled
// size first. Of the boxes that lead to the same size it uses the first. All
// scaled sizes have the picture's aspect ratio, so each is at least as wide and
// as high as the next.
func newTargets(picture photo.Size, boxes []photo.Box) []target {
	var targets []target
	for _, box := range boxes {
		size := box.ThumbnailSize(picture)
		if !slices.ContainsFunc(targets, func(t target) bool { return t.size == size }) {
			targets = append(targets, target{size, box.ScaledSize(picture), box.Mode})
		}
	}
	slices.SortFunc(targets, func(a, b target) int { return compareSizes(b.scaled, a.scaled) })
	return targets
}

// compareSizes orders sizes by width, then height.
func compareSizes(a, b photo.Size) int {
	return cmp.Or(cmp.Compare(a.Width, b.Width), cmp.Compare(a.Height, b.Height))
}
