package samples

import (
	"image"
	"math"
	"math/rand/v2"
)

// Distances from the camera at which the ground enters the picture, and of the
// last range of mountains. One unit is about a hundred metres.
const (
	nearest  = 1.0
	farthest = 130.0
)

// drawLandscape draws mountains under a sky, most of them with a lake that
// reflects them. The width and height, in pixels, must be at least 1. The seed
// decides the scene: the same seed and size give the same pixels, and the same
// seed in another size gives nearly the same view. The result is opaque.
//
// It draws from back to front and from coarse to fine, on one goroutine:
//
//	sky, clouds, stars ─▶ terrain ─▶ its reflection in the lake ─▶ grass and firs ─▶ grain
func drawLandscape(seed uint64, width, height int) *image.RGBA {
	p := &painter{
		RGBA:   image.NewRGBA(image.Rect(0, 0, width, height)),
		mood:   moods[seed%uint64(len(moods))],
		random: rand.New(rand.NewPCG(seed, 0)),
		w:      width,
		h:      height,
	}
	p.noise = newNoise(p.random)
	p.horizon = float32(height) * lerp(0.54, 0.62, p.random.Float32())
	p.focus = 0.95 * float32(max(width, height))
	p.eye = (float32(height) - p.horizon) / p.focus * nearest
	p.sunX = lerp(0.2, 0.8, p.random.Float32())
	p.dx, p.dz = p.random.Float32()*1000, p.random.Float32()*1000
	p.wave = 32 * max(float32(height)/p.focus, 0.3)
	p.texture = newTexture(p.noise, p.random)

	for i, draw := range []func(){p.drawSky, p.drawTerrain, p.drawReflection, p.drawGrass, p.drawFirs, p.addGrain} {
		// Each step has its own generator: the number of values that a step
		// takes depends on the resolution, and must not affect the next step.
		p.random = rand.New(rand.NewPCG(seed, uint64(i+1)))
		draw()
	}
	return p.RGBA
}

// painter is the state of drawLandscape.
type painter struct {
	*image.RGBA
	mood
	noise   *noise
	texture *texture
	random  *rand.Rand
	w, h    int

	horizon float32 // the row at the height of the camera
	focus   float32 // pixels per unit at distance 1
	eye     float32 // the camera's height above the lake
	sunX    float32 // of the sun, as a part of the width
	dx, dz  float32 // offset of the view in the endless terrain
	wave    float32 // typical distance of two peaks
	peak    float32 // height of the highest possible one
}

// textureSide is the width and height of a texture in pixels, after which it
// repeats.
const textureSide = 256

// texture is fine noise per pixel, which looks like distant leaves, grass and
// grit.
type texture [textureSide * textureSide]float32

func newTexture(n *noise, random *rand.Rand) *texture {
	t := new(texture)
	for y := range textureSide {
		for x := range textureSide {
			fx, fy := float32(x), float32(y)
			// Frequencies that divide the table's side, so that it tiles.
			t[y*textureSide+x] = 0.45*n.at(fx/4, fy/2) + 0.35*n.at(fx/2+77, fy/2+31) + 0.4*(random.Float32()*2-1)
		}
	}
	return t
}

func (t *texture) at(x, y int) float32 {
	return t[(y&(textureSide-1))*textureSide+x&(textureSide-1)]
}

func exp(x float32) float32 { return float32(math.Exp(float64(x))) }

// addGrain adds a sensor's noise to every pixel, without which the picture
// would compress better than a photograph. It also makes the picture opaque.
func (p *painter) addGrain() {
	var table [1 << 14]int16
	for i := range table {
		table[i] = int16(math.Round(p.random.NormFloat64() * 2.8))
	}
	for y := range p.h {
		at := p.random.IntN(len(table))
		row := p.Pix[y*p.Stride : (y+1)*p.Stride]
		for x := 0; x < len(row); x += 4 {
			g := table[at&(len(table)-1)]
			at++
			row[x] = uint8(min(max(int16(row[x])+g, 0), 255))
			row[x+1] = uint8(min(max(int16(row[x+1])+g, 0), 255))
			row[x+2] = uint8(min(max(int16(row[x+2])+g, 0), 255))
			row[x+3] = markOther
		}
	}
}
