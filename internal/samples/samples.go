package samples

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// Sample is one of the photos that a new database starts with.
type Sample struct {
	Name string // the last part of its URL

	// Size is how large the photo is when one looks at it, which is not how its
	// pixels are stored if Orientation says that they lie on their side.
	Size        photo.Size
	Orientation int // as EXIF counts, 1 to 8; 0 if the format has none

	// Forbidden tells that the photo answers 403, and has no bytes at all.
	Forbidden bool

	write func(io.Writer) error
}

// Samples are the six photos: landscape and portrait, 2 to 12 megapixels, one on
// its side, one with transparency, and one that cannot be had.
var Samples = []Sample{
	jpegSample("mountains.jpg", mountains, photo.Size{Width: 3000, Height: 2000}, 1),
	jpegSample("sunset.jpg", sunset, photo.Size{Width: 4000, Height: 3000}, 1),
	jpegSample("stars.jpg", stars, photo.Size{Width: 2000, Height: 3000}, 1),
	jpegSample("rotated.jpg", autumn, photo.Size{Width: 1800, Height: 2400}, 6),
	{Name: "prints.png", Size: printsSize, write: prints},
	{Name: "forbidden.jpg", Forbidden: true},
}

// Seeds whose landscapes look well.
const (
	mountains = 48
	sunset    = 41
	stars     = 10
	autumn    = 11
	winter    = 6
)

// quality is what cameras and editors usually write.
const quality = 88

func jpegSample(name string, seed uint64, size photo.Size, orientation int) Sample {
	return Sample{Name: name, Size: size, Orientation: orientation, write: func(w io.Writer) error {
		return JPEG(w, seed, size.Width, size.Height, quality, orientation)
	}}
}

// URLs gives where the Samples are, in their order, when Handler serves base.
func URLs(base string) []string {
	urls := make([]string, len(Samples))
	for i, s := range Samples {
		urls[i] = strings.TrimSuffix(base, "/") + "/photos/" + s.Name
	}
	return urls
}

// GeneratedURL gives where the landscape of a seed is, when Handler serves base.
func GeneratedURL(base string, seed uint64, size photo.Size) string {
	return fmt.Sprintf("%s/generated/%d/%s.jpg", strings.TrimSuffix(base, "/"), seed, size)
}

// CameraSize gives a size such as photos have: 2 to 15 megapixels, 3:2, 4:3 or
// 16:9, and one in three upright. The same seed always gives the same one.
func CameraSize(seed uint64) photo.Size {
	random := rand.New(rand.NewPCG(seed, 1))
	pixels := 2e6 + 13e6*random.Float64()
	ratio := []float64{3.0 / 2, 4.0 / 3, 16.0 / 9}[random.IntN(3)]
	height := math.Sqrt(pixels / ratio)
	size := photo.Size{Width: int(math.Round(height * ratio)), Height: int(math.Round(height))}
	if random.IntN(3) == 0 {
		size.Width, size.Height = size.Height, size.Width
	}
	return size
}
