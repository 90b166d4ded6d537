package samples

import (
	"image"
	"image/png"
	"io"
	"math"

	"github.com/photo-processor/photo-processor/internal/photo"
)

var printsSize = photo.Size{Width: 1600, Height: 1300}

// writePrints writes a transparent PNG of two paper prints and their soft
// shadows.
func writePrints(w io.Writer) error {
	return png.Encode(w, drawPrints(printsSize.Width, printsSize.Height))
}

func drawPrints(width, height int) *image.NRGBA {
	unit := float32(width) / 1600
	side := int(770 * unit)
	front := newSnapshot(drawLandscape(sunset, side, side*3/4), 0.57*float64(width), 0.55*float64(height), -6)
	back := newSnapshot(drawLandscape(winter, side, side*3/4), 0.42*float64(width), 0.41*float64(height), 8)
	drawn := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			color, alpha := front.at(float32(x), float32(y), unit)
			if alpha < 1 {
				below, alpha2 := back.at(float32(x), float32(y), unit)
				for i := range color {
					color[i] += below[i] * (1 - alpha)
				}
				alpha += alpha2 * (1 - alpha)
			}
			if alpha <= 0 {
				continue
			}
			pixel := drawn.Pix[y*drawn.Stride+4*x:]
			for i := range color {
				pixel[i] = uint8(min(color[i]/alpha+0.5, 255))
			}
			pixel[3] = uint8(alpha*255 + 0.5)
		}
	}
	return drawn
}

// snapshot is a picture on white paper.
type snapshot struct {
	*image.RGBA
	x, y     float32 // its centre
	sin, cos float32
}

func newSnapshot(picture *image.RGBA, x, y, degrees float64) *snapshot {
	sin, cos := math.Sincos(degrees * math.Pi / 180)
	return &snapshot{picture, float32(x), float32(y), float32(sin), float32(cos)}
}

// at returns the premultiplied colour at a point, 0 to 255, and its alpha, 0 to
// 1.
func (p *snapshot) at(x, y, unit float32) (color [3]float32, alpha float32) {
	x, y = x-p.x, y-p.y
	w, h := float32(p.Rect.Dx()), float32(p.Rect.Dy())
	border, foot := 48*unit, 150*unit // margins of the paper; the lower one is wider
	paper := func(x, y float32) float32 {
		x, y = p.cos*x+p.sin*y, p.cos*y-p.sin*x
		return roundedRectDistance(x, y-(foot-border)/2, w/2+border, h/2+(foot+border)/2, 10*unit)
	}
	cover := clamp01(0.5 - paper(x, y))
	// Two shadows: a narrow one around the paper and a wide one away from the
	// lamp.
	shadow := 0.35*smoothstep(26*unit, -6*unit, paper(x-4*unit, y-8*unit)) + 0.3*smoothstep(90*unit, -50*unit, paper(x-18*unit, y-36*unit))
	alpha = cover + (1-cover)*shadow
	if cover == 0 {
		return color, alpha
	}
	u, v := p.cos*x+p.sin*y+w/2, p.cos*y-p.sin*x+h/2
	white := 247 - 6*v/h
	shown := clamp01(0.5 - roundedRectDistance(u-w/2, v-h/2, w/2-1, h/2-1, 2*unit))
	left, top := min(max(floor(u), 0), p.Rect.Dx()-2), min(max(floor(v), 0), p.Rect.Dy()-2)
	du, dv := clamp01(u-float32(left)), clamp01(v-float32(top))
	upper := p.Pix[p.PixOffset(left, top):]
	lower := upper[p.Stride:]
	for i := range color {
		ink := lerp(lerp(float32(upper[i]), float32(upper[4+i]), du), lerp(float32(lower[i]), float32(lower[4+i]), du), dv)
		color[i] = cover * lerp(white, ink, shown)
	}
	return color, alpha
}

// roundedRectDistance returns the distance of a point from a rectangle with
// round corners around the origin; it is negative inside.
func roundedRectDistance(x, y, halfWidth, halfHeight, radius float32) float32 {
	dx, dy := abs(x)-halfWidth+radius, abs(y)-halfHeight+radius
	ox, oy := max(dx, 0), max(dy, 0)
	return float32(math.Sqrt(float64(ox*ox+oy*oy))) + min(max(dx, dy), 0) - radius
}
