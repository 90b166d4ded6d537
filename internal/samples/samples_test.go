package samples

import (
	"bytes"
	"image"
	"image/color"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

func TestSamples(t *testing.T) {
	t.Parallel()

	names := map[string]bool{}
	var forbidden, rotated, transparent, portrait, landscape int
	for _, s := range Samples {
		names[s.Name] = true
		if s.Forbidden {
			forbidden++
			continue
		}
		pixels := s.Size.Width * s.Size.Height
		assert.True(t, 2_000_000 <= pixels && pixels <= 12_000_000, "%s has %d pixels", s.Name, pixels)
		switch {
		case s.Orientation == 0:
			transparent++
		case s.Orientation > 1:
			rotated++
		}
		if s.Size.Height > s.Size.Width {
			portrait++
		} else {
			landscape++
		}
	}
	assert.Len(t, names, 6)
	assert.Len(t, Samples, 6)
	assert.Equal(t, []int{1, 1, 1}, []int{forbidden, rotated, transparent})
	assert.Positive(t, portrait)
	assert.Positive(t, landscape)
}

func TestURLs(t *testing.T) {
	t.Parallel()

	want := []string{
		"http://127.0.0.1:3001/photos/mountains.jpg", "http://127.0.0.1:3001/photos/sunset.jpg",
		"http://127.0.0.1:3001/photos/stars.jpg", "http://127.0.0.1:3001/photos/rotated.jpg",
		"http://127.0.0.1:3001/photos/prints.png", "http://127.0.0.1:3001/photos/forbidden.jpg",
	}
	assert.Equal(t, want, URLs("http://127.0.0.1:3001"))
	assert.Equal(t, want, URLs("http://127.0.0.1:3001/"))
	assert.Equal(t, "http://h/generated/42/4000x3000.jpg", GeneratedURL("http://h/", 42, photo.Size{Width: 4000, Height: 3000}))
}

func TestDrawPrints(t *testing.T) {
	t.Parallel()

	const width, height = 400, 325
	drawn := drawPrints(width, height)
	for _, corner := range [][2]int{{0, 0}, {width - 1, 0}, {0, height - 1}, {width - 1, height - 1}} {
		assert.Equal(t, color.NRGBA{}, drawn.NRGBAAt(corner[0], corner[1]), "corner %v", corner)
	}
	assert.Equal(t, uint8(255), drawn.NRGBAAt(width/2, height/2).A)

	// The shadows are black with many values of alpha.
	strengths := map[uint8]bool{}
	for y := range height {
		for x := range width {
			if c := drawn.NRGBAAt(x, y); c.R == 0 && c.G == 0 && c.B == 0 {
				strengths[c.A] = true
			}
		}
	}
	assert.Greater(t, len(strengths), 50)
}

// BenchmarkSamples draws all samples. It also checks their fields, which takes
// too long for a test.
func BenchmarkSamples(b *testing.B) {
	for _, s := range Samples {
		if s.Forbidden {
			continue
		}
		b.Run(s.Name, func(b *testing.B) {
			var out bytes.Buffer
			for b.Loop() {
				out.Reset()
				require.NoError(b, s.write(&out))
			}
			b.ReportMetric(float64(out.Len())/1e6, "MB")
			stored, want := s.Size, "jpeg"
			switch {
			case s.Orientation == 0:
				want = "png"
			case s.Orientation >= 5:
				stored.Width, stored.Height = stored.Height, stored.Width
			}
			config, format, err := image.DecodeConfig(&out)
			require.NoError(b, err)
			assert.Equal(b, want, format)
			assert.Equal(b, stored, photo.Size{Width: config.Width, Height: config.Height})
		})
	}
}
