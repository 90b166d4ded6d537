package samples

import (
	"fmt"
	"image"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDrawLandscapeIsDeterministic(t *testing.T) {
	t.Parallel()

	seen := map[string]uint64{}
	for seed := range uint64(len(moods)) {
		first, second := drawLandscape(seed, 24, 16), drawLandscape(seed, 24, 16)
		require.Equal(t, first.Pix, second.Pix, "seed %d", seed)
		earlier, ok := seen[string(first.Pix)]
		assert.False(t, ok, "seeds %d and %d give the same picture", earlier, seed)
		seen[string(first.Pix)] = seed
	}
}

func TestDrawLandscapeInAnotherSize(t *testing.T) {
	t.Parallel()

	for seed := range uint64(4) {
		small, large := drawLandscape(seed, 120, 80), drawLandscape(seed, 240, 160)
		other := drawLandscape(seed+uint64(len(moods)), 120, 80)
		assert.Less(t, difference(small, large), 9.0, "seed %d", seed)
		assert.Less(t, difference(small, large)*1.5, difference(other, large), "seed %d: no closer than another seed's", seed)
	}
}

func TestDrawLandscapeSizes(t *testing.T) {
	t.Parallel()

	for seed, size := range []image.Point{
		{1, 1}, {1, 50}, {50, 1}, {2, 3}, {5, 4}, {17, 9}, {400, 3}, {3, 400}, {3000, 1},
		{1, 1}, {48, 32}, {48, 32}, {32, 48}, {32, 48}, {48, 32}, {48, 32},
	} {
		drawn := drawLandscape(uint64(seed), size.X, size.Y)
		assert.Equal(t, size, drawn.Bounds().Size())
		assert.True(t, drawn.Opaque(), "seed %d, size %v: left a mark in the alpha channel", seed, size)
	}
}

// difference returns the mean difference of two pictures of the same aspect
// ratio, 0 to 255, over the squares of a 12x8 grid.
func difference(a, b image.Image) float64 {
	var sum float64
	for row := range 8 {
		for column := range 12 {
			ca, cb := square(a, column, row), square(b, column, row)
			for i := range ca {
				sum += max(ca[i]-cb[i], cb[i]-ca[i])
			}
		}
	}
	return sum / (3 * 8 * 12)
}

// square returns the mean colour of one square of the grid, 0 to 255.
func square(m image.Image, column, row int) (mean [3]float64) {
	w, h := m.Bounds().Dx(), m.Bounds().Dy()
	n := 0.0
	for y := row * h / 8; y < (row+1)*h/8; y++ {
		for x := column * w / 12; x < (column+1)*w/12; x++ {
			r, g, b, _ := m.At(x, y).RGBA()
			for i, c := range []uint32{r, g, b} {
				mean[i] += float64(c) / 257
			}
			n++
		}
	}
	for i := range mean {
		mean[i] /= n
	}
	return mean
}

func BenchmarkDrawLandscape(b *testing.B) {
	for _, size := range []image.Point{{320, 240}, {3000, 2000}, {6000, 4000}} {
		b.Run(fmt.Sprintf("%dx%d", size.X, size.Y), func(b *testing.B) {
			seed := uint64(0)
			for b.Loop() {
				drawLandscape(seed, size.X, size.Y)
				seed++ // through all moods: they do not take the same time
			}
		})
	}
}
