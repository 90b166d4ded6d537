package samples

import (
	"image"
	"math"
	"math/rand/v2"
)

// Distances are in units of which one is about a hundred metres: the camera
// stands at 0, the ground comes into the picture at nearest, and at farthest is the last
// range of mountains.
const (
	nearest  = 1.0
	farthest = 130.0
)

// Picture draws a landscape: mountains under a sky, most of them with a lake that
// mirrors them. The seed decides everything about the scene but its resolution:
// the same seed and size give the same pixels, the same seed in another size
// nearly the same view. Both sides must be at least 1. The picture is opaque.
func Picture(seed uint64, width, height int) image.Image { return picture(seed, width, height) }

// picture draws from back to front and from coarse to fine:
//
//	sky, clouds, stars ─▶ terrain ─▶ its mirror image in the lake ─▶ grass and firs ─▶ grain
//
// It is one goroutine's work: who draws many pictures runs many of them.
func picture(seed uint64, width, height int) *image.RGBA {
	p := &painter{
		RGBA:   image.NewRGBA(image.Rect(0, 0, width, height)),
		mood:   moods[seed%uint64(len(moods))],
		random: rand.New(rand.NewPCG(seed, 0)),
		w:      width,
		h:      height,
	}
	p.noise = newNoise(p.random)
	p.horizon = float32(height) * mix(0.54, 0.62, p.random.Float32())
	p.focus = 0.95 * float32(max(width, height))
	p.eye = (float32(height) - p.horizon) / p.focus * nearest
	p.sunX = mix(0.2, 0.8, p.random.Float32())
	p.dx, p.dz = p.random.Float32()*1000, p.random.Float32()*1000
	p.wave = 32 * max(float32(height)/p.focus, 0.3)
	p.texture = newTexture(p.noise, p.random)

	for i, draw := range []func(){p.sky, p.terrain, p.mirror, p.grow, p.firs, p.grain} {
		// How many numbers a step takes depends on the resolution; what the next
		// one draws must not.
		p.random = rand.New(rand.NewPCG(seed, uint64(i+1)))
		draw()
	}
	return p.RGBA
}

// painter is one picture in the making.
type painter struct {
	*image.RGBA
	mood
	noise   *noise
	texture *texture
	random  *rand.Rand
	w, h    int

	horizon float32 // the row that is level with the camera
	focus   float32 // how many pixels one unit takes up at distance 1
	eye     float32 // the camera's height above the lake
	sunX    float32 // where the sun stands, as a part of the width
	dx, dz  float32 // which part of the endless terrain is in view
	wave    float32 // the distance between two peaks
	peak    float32 // the height of the highest possible one
}

// textureSide is how many pixels a texture measures before it repeats.
const textureSide = 256

// texture is fine noise for each pixel: what leaves, grass and grit look like from
// afar.
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

// air is the sky without its clouds.
func (p *painter) air(x, y float32) rgb {
	up := (p.horizon - y) / p.horizon
	c := p.mood.horizon.toward(p.middle, step(0, 0.45, up)).toward(p.zenith, step(0.15, 1.1, up))
	if p.behind {
		return c
	}
	dx, dy := p.fromSun(x, y)
	distance := float32(math.Sqrt(float64(dx*dx + dy*dy)))
	c = c.plus(p.sun.scale(p.glow * (0.8*exp(-distance*11) + 0.15*exp(-distance*3))))
	return c.plus(p.sun.scale(14 * step(0.02, 0.017, distance)))
}

// veil is the colour that distance takes on. Against the light it is darker than
// the sky, so that the mountains stand out.
func (p *painter) veil(x float32) rgb {
	if p.behind {
		return p.mood.horizon.toward(p.middle, 0.25)
	}
	dx, _ := p.fromSun(x, 0)
	c := p.mood.horizon.toward(p.middle, 0.6).scale(0.6)
	return c.plus(p.sun.scale(p.glow * 0.3 * exp(-dx*dx*25)))
}

func exp(x float32) float32 { return float32(math.Exp(float64(x))) }

// fromSun is how far from the sun a pixel is, in widths of the longer side.
func (p *painter) fromSun(x, y float32) (dx, dy float32) {
	long := float32(max(p.w, p.h))
	sunY := p.horizon - p.elevation*float32(p.h)*0.6
	return (x - p.sunX*float32(p.w)) / long, (y - sunY) / long
}

// cloud gives how much of the sky a cloud hides at a pixel, and how much of the
// sun falls on it there. It lies on a flat ceiling, so it narrows towards the
// horizon.
func (p *painter) cloud(x, y float32) (cover, lit float32) {
	rise := (p.horizon - y) / p.focus
	if p.clouds == 0 || rise <= 0 {
		return 0, 0
	}
	away := 1 / (rise + 0.09)
	u, v := (x-p.sunX*float32(p.w))/p.focus*away*1.1+p.dx, away*0.9+p.dz
	density := p.noise.fractal(u, v, 6)
	threshold := 0.75 - 1.1*p.clouds
	cover = step(threshold, threshold+0.4, density)
	if cover == 0 {
		return 0, 0
	}
	toward := float32(0.22)
	if p.behind {
		toward = -0.22
	}
	lit = clamp(0.55 + 1.3*(density-p.noise.fractal(u+0.1, v+toward, 4)))
	return cover * step(0, 0.1, rise), lit
}

// sky fills the picture down to the horizon, and the rest with the last row of
// it, for the terrain to blend into.
func (p *painter) sky() {
	// The sky is soft: it is computed at some points and interpolated between.
	cell := max(1, max(p.w, p.h)/1000)
	bottom := min(p.h, int(p.horizon)+2*cell+2)
	columns := p.w/cell + 2
	above, below := make([]rgb, columns), make([]rgb, columns)
	compute := func(row []rgb, y int) {
		for i := range row {
			x := float32(i * cell)
			c := p.air(x, float32(y))
			cover, lit := p.cloud(x, float32(y))
			if p.stars {
				c = c.plus(starlight.scale(p.milkyWay(x, float32(y))))
			}
			row[i] = c.toward(p.cloudDim.toward(p.cloudLit, lit), cover*0.95)
		}
	}
	compute(below, 0)
	for y := range bottom {
		if y%cell == 0 {
			above, below = below, above
			compute(below, y+cell)
		}
		v := float32(y%cell) / float32(cell)
		row := p.Pix[y*p.Stride : (y+1)*p.Stride]
		for i, x := 0, 0; x < p.w; i++ {
			left, right := above[i].toward(below[i], v), above[i+1].toward(below[i+1], v)
			for k := 0; k < cell && x < p.w; k, x = k+1, x+1 {
				left.toward(right, float32(k)/float32(cell)).put(row[4*x:])
				row[4*x+3] = 255
			}
		}
	}
	for y := bottom; y < p.h; y++ {
		copy(p.Pix[y*p.Stride:(y+1)*p.Stride], p.Pix[(bottom-1)*p.Stride:])
	}
	if p.stars {
		p.starfield()
	}
}

// starlight is the colour of stars too faint to be seen one by one.
var starlight = hex(0x8090c0)

// milkyWay gives how bright the band of faint stars is at a pixel.
func (p *painter) milkyWay(x, y float32) float32 {
	away := p.fromBand(x, y)
	if y > p.horizon {
		return 0
	}
	u, v := x/p.focus*6+p.dx, y/p.focus*6
	return 0.09 * exp(-away*away*22) * clamp(0.6+1.1*p.noise.fractal(u, v, 5)) * step(p.horizon, p.horizon*0.6, y)
}

// fromBand is how far a pixel is from the middle of that band.
func (p *painter) fromBand(x, y float32) float32 {
	return (x-0.62*float32(p.w))/float32(p.w)*0.9 + (y/p.horizon-0.4)*0.6
}

// starfield adds stars, most of them faint, more of them along the band.
func (p *painter) starfield() {
	size := float32(max(p.w, p.h)) / 3000
	for range 9000 {
		x, y := p.random.Float32(), p.random.Float32()
		x, y = x*float32(p.w), y*p.horizon
		band := p.fromBand(x, y)
		chance := 0.25 + 0.75*exp(-band*band*30)
		faint := p.random.Float32()
		tint := p.random.Float32()
		if p.random.Float32() > chance*step(1, 0.75, y/p.horizon) {
			continue
		}
		bright := 0.08 + 1.2*float32(math.Pow(float64(faint), 9))
		if p.clouds > 0 {
			cover, _ := p.cloud(x, y)
			bright *= 0.4 * (1 - cover)
		}
		radius := size * (0.8 + 1.3*bright)
		color := rgb{0.75 + 0.35*tint, 0.85, 1.1 - 0.3*tint}.scale(bright)
		reach := int(radius*2) + 1
		for py := int(y) - reach; py <= int(y)+reach; py++ {
			for px := int(x) - reach; px <= int(x)+reach; px++ {
				if px < 0 || py < 0 || px >= p.w || py >= int(p.horizon) {
					continue
				}
				dx, dy := float32(px)-x, float32(py)-y
				k := float32(math.Exp(float64(-(dx*dx + dy*dy) / (radius * radius))))
				pixel := p.Pix[py*p.Stride+4*px:]
				for i, c := range [3]float32{color.r, color.g, color.b} {
					pixel[i] = uint8(min(255, float32(pixel[i])+255*k*c))
				}
			}
		}
	}
}

// grain adds what a sensor adds in every pixel, and with it the last of the
// detail that makes a picture compress as a photograph does.
func (p *painter) grain() {
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
			row[x+3] = dry
		}
	}
}
