package samples

import (
	"fmt"
	"io"
	"strings"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// Sample is a photo that the development stack posts to a new database.
type Sample struct {
	Name string // the last segment of its URL

	// Size is the size of the upright photo, in pixels. If Orientation is 5 to
	// 8, the stored width and height are swapped.
	Size        photo.Size
	Orientation int // of EXIF, 1 to 8; 0 if the format has none

	// Forbidden is whether requests answer 403. Such a photo has no size.
	Forbidden bool

	write func(io.Writer) error
}

// Samples are six photos, landscape and portrait, with 2 to 12 megapixels. One
// is stored rotated, one is transparent, and one is forbidden.
var Samples = []Sample{
	jpegSample("mountains.jpg", mountains, photo.Size{Width: 3000, Height: 2000}, 1),
	jpegSample("sunset.jpg", sunset, photo.Size{Width: 4000, Height: 3000}, 1),
	jpegSample("stars.jpg", stars, photo.Size{Width: 2000, Height: 3000}, 1),
	jpegSample("rotated.jpg", autumn, photo.Size{Width: 1800, Height: 2400}, 6),
	{Name: "prints.png", Size: printsSize, write: writePrints},
	{Name: "forbidden.jpg", Forbidden: true},
}

// Seeds of attractive landscapes.
const (
	mountains = 48
	sunset    = 41
	stars     = 10
	autumn    = 11
	winter    = 6
)

// quality is the JPEG quality that cameras and editors usually use.
const quality = 88

func jpegSample(name string, seed uint64, size photo.Size, orientation int) Sample {
	return Sample{Name: name, Size: size, Orientation: orientation, write: func(w io.Writer) error {
		return WriteJPEG(w, seed, size.Width, size.Height, quality, orientation)
	}}
}

// URLs returns the URLs of the Samples, in their order, where Handler serves
// base.
func URLs(base string) []string {
	urls := make([]string, len(Samples))
	for i, s := range Samples {
		urls[i] = strings.TrimSuffix(base, "/") + "/photos/" + s.Name
	}
	return urls
}

// GeneratedURL returns the URL of a seed's landscape where Handler serves base.
func GeneratedURL(base string, seed uint64, size photo.Size) string {
	return fmt.Sprintf("%s/generated/%d/%s.jpg", strings.TrimSuffix(base, "/"), seed, size)
}
