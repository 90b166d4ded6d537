package samples

import (
	"math"
	"slices"
)

// What the alpha channel says about a pixel until the picture is done.
const (
	wet    = 0   // of the lake, for mirror
	meadow = 1   // of the ground before the camera, for grass
	dry    = 255 // all else, and what every pixel has in the end
)

// stride is how many columns of the picture share one computed height.
const stride = 4

// terrain draws the ground from near to far. Each step computes one line across
// the land, projects it, and fills what it raises above everything nearer:
//
//	        ╱╲ far        drawn last, where it still shows
//	  ╱╲  ╱    ╲
//	╱    ╲ near           drawn first, hides what is behind it
//
// Heights are computed for every fourth column, and for about half as many lines
// as the picture has rows; everything between is interpolated.
func (p *painter) terrain() {
	columns := p.w/stride + 2
	near, middle, far := newLine(columns), newLine(columns), newLine(columns)
	top := make([]float32, p.w) // per column, where the ground ends so far
	for x := range top {
		top[x] = float32(p.h)
	}
	p.peak = p.highest()
	pace := min(max(10/float32(p.h), 0.001), 0.03)
	for i, z := 0, float32(nearest)*0.8; z < farthest; i++ {
		p.survey(far, z)
		if i > 0 {
			p.light(middle, far, top) // its slopes need the line behind it
		}
		if i > 1 {
			p.woods(near, top)
			p.fill(near, middle, top)
		}
		near, middle, far = middle, far, near
		// Hills turn their steep side to the camera: a line there raises more.
		z *= 1 + pace*mix(1, 0.6, step(4, 8, z))
	}
}

// line is the ground at one distance, at every column that is computed.
type line struct {
	z      float32
	random uint32 // what is by chance on this line
	height []float32
	row    []float32 // where in the picture the ground is
	woods  []float32 // how many trees stand there: none at 0, all that can at 1
	color  []rgb
	rough  []float32 // by how much the pixels around differ
	trees  []rgb     // the colour of a tree
	water  []bool
}

func newLine(n int) *line {
	return &line{
		height: make([]float32, n), row: make([]float32, n), woods: make([]float32, n), color: make([]rgb, n),
		rough: make([]float32, n), trees: make([]rgb, n), water: make([]bool, n),
	}
}

// at gives the colour between two computed columns, and whether it is the lake's.
func (l *line) at(i int, k float32) (rgb, bool) {
	if l.water[i] != l.water[i+1] {
		if k >= 0.5 {
			i++
		}
		return l.color[i], l.water[i]
	}
	return l.color[i].toward(l.color[i+1], k), l.water[i]
}

// side gives how far a column lies from the middle of the view, at a distance from
// the camera.
func (p *painter) side(x int, z float32) float32 {
	return (float32(x) - float32(p.w)/2) / p.focus * z
}

// beach gives the distance at which the lake or the plain ends and the hills begin.
func (p *painter) beach(x float32) float32 { return 9 + 5*p.noise.at(x/9+p.dz, 11) }

// mountain is how high the mountains are, as a part of the highest possible ones.
func (p *painter) mountain(x, z float32, octaves int) float32 {
	beach := p.beach(x)
	envelope := step(beach, beach+50, z)
	if envelope == 0 {
		return 0
	}
	m := p.noise.eroded((x+p.dx)/p.wave, (z+p.dz)/p.wave, octaves)
	return envelope * m * m
}

// highest finds by what to multiply mountain, so that the skyline comes to lie as
// high in the picture as looks well.
func (p *painter) highest() float32 {
	steepest := float32(0.0001)
	for z := float32(10); z < farthest; z *= 1.04 {
		for x := 0; x < p.w; x += max(1, p.w/64) {
			steepest = max(steepest, p.mountain(p.side(x, z), z, 4)/z)
		}
	}
	skyline := mix(0.17, 0.3, p.random.Float32())
	if !p.behind {
		skyline = mix(0.36, 0.42, p.random.Float32()) // leaves room for the sun
	}
	return (p.horizon - skyline*float32(p.h)) / p.focus / steepest
}

// survey computes the heights along a line.
func (p *painter) survey(l *line, z float32) {
	l.z = z
	l.random = p.random.Uint32()
	// Octaves finer than the columns would only alias.
	footprint := stride * z / p.focus
	octaves := min(max(int(math.Log2(float64(p.wave/footprint))), 3), 11)
	for i := range l.height {
		x := p.side(stride*i, z)
		shore := 1.9 + 0.9*p.noise.at(x*0.9+p.dx, 7) + 0.25*p.noise.at(x/3+p.dx, z/3)
		beach := p.beach(x)
		h := float32(-0.04)
		if !p.lake {
			h = p.dunes(x, z)
		}
		if front := step(shore, shore-0.9, z); front > 0 {
			h += front * (0.085 + 0.05*p.noise.fractal(x*2+p.dx, z*2, 9))
		}
		back := step(beach, beach+18, z)
		if back > 0 {
			h += back*(0.5+0.5*p.noise.fractal(x/5+p.dx, z/5, min(octaves, 7))) + 0.08*min(back*8, 1)
			h += p.peak * p.mountain(x, z, octaves)
		}
		l.water[i] = p.lake && h <= 0
		l.woods[i] = 0
		if l.water[i] {
			h = 0
		} else if p.wooded > 0 && back > 0 && h > 0.02 {
			limit := 0.36 * p.peak
			l.woods[i] = p.wooded*1.5 - 0.55 + 0.8*p.noise.fractal(x/2.3+p.dz, z/2.3, 3) - 1.2*step(limit*0.5, limit, h)
		}
		l.height[i] = h
		l.row[i] = p.horizon - (h-p.eye)/z*p.focus
	}
}

// dunes is the height of a sandy plain: long crests across the wind.
func (p *painter) dunes(x, z float32) float32 {
	bend := p.noise.at(x/6+p.dx, z/9)
	crest := 1 - round(p.noise.at((x+z)/7+0.8*bend+p.dx, (z-x)/16))
	small := 1 - round(p.noise.at(x*1.3+0.5*bend+p.dz, z*2.5+bend))
	return 0.16*crest*crest*min(z/4, 6) - 0.1 + 0.03*small*small + 0.003*p.noise.fractal(x*4, z*4, 4)
}

// round is abs without its crease.
func round(x float32) float32 { return x * x / (abs(x) + 0.12) }

func abs(x float32) float32 { return max(x, -x) }

// light computes the colours of the nearer of two lines, where they will be seen.
func (p *painter) light(l, next *line, top []float32) {
	lx, ly, lz := p.sunlight()
	n := len(l.height)
	shade := float32(-1000) // how high the shadow reaches at this column
	for k := range n {
		i := k
		if lx > 0 {
			i = n - 1 - k
		}
		if l.water[i] {
			l.color[i], shade = p.mood.water, -1000
			continue
		}
		x := p.side(stride*i, l.z)
		h := l.height[i]
		left, right := max(i-1, 0), min(i+1, n-1)
		spacing := stride * l.z / p.focus
		sx := (l.height[right] - l.height[left]) / (spacing * float32(right-left))
		sz := (next.height[i]-h)/(next.z-l.z) - sx*x/l.z
		level := 1 / float32(math.Sqrt(float64(sx*sx+sz*sz+1)))
		facing := max(0, (-sx*lx+ly-sz*lz)*level)
		shade = max(shade-spacing*ly/max(abs(lx), 0.2), h)
		if min(slices.Min(next.row[left:right+1]), slices.Min(l.row[left:right+1])-canopy*p.focus/l.z) >
			slices.Max(top[min(stride*left, p.w-1):min(stride*right+1, p.w)]) {
			continue
		}
		open := 1 - 0.85*step(0, 0.02*l.z, shade-h)

		light := p.sun.scale(facing * open).plus(p.ambient.scale(0.6 + 0.4*level))
		veil := p.veil(float32(stride * i))
		share := 1 - exp(-p.haze*max(l.z-3, 0)*(1.2-0.6*clamp(h/p.peak)))
		l.color[i] = p.ground(x, l.z, h, level).times(light).toward(veil, share)
		l.rough[i] = 0.3 * (1 - share)
		if l.woods[i] > 0 {
			light = p.sun.scale((0.3 + 0.5*facing) * open).plus(p.ambient.scale(0.7))
			l.trees[i] = p.forest.times(light).toward(veil, share)
		}
	}
}

// sunlight gives the direction in which the sun stands.
func (p *painter) sunlight() (x, y, z float32) {
	x, y, z = 2*p.sunX-1, 0.25+0.6*p.elevation, 0.75
	if abs(x) < 0.35 {
		x = float32(math.Copysign(0.35, float64(x)))
	}
	if p.behind {
		x, z = 3*x, -0.35
	}
	length := float32(math.Sqrt(float64(x*x + y*y + z*z)))
	return x / length, y / length, z / length
}

// ground gives the colour of the ground itself; level is 1 where it is flat.
func (p *painter) ground(x, z, h, level float32) rgb {
	rough := p.noise.fractal(x*1.7, z*1.7+h*6, 4)
	strata := p.rock.scale(0.8 + 0.3*rough + 0.15*p.noise.at(h*8, x*0.3))
	c := p.grass.scale(0.85 + 0.35*rough)
	c = c.toward(p.forest, clamp(0.35+0.6*p.noise.at(x/1.4, z/1.4))*0.5)
	if h > 0.5 {
		c = c.toward(strata, max(step(0.86, 0.7, level+0.08*rough), step(0.25, 0.45, h/p.peak+0.1*rough)))
	}
	if p.lake {
		c = c.toward(strata, step(0.03, 0.005, h)*0.8)
	}
	if p.snowline < 1 {
		snow := step(p.snowline-0.05, p.snowline+0.12, h/p.peak+0.12*rough) * step(0.38, 0.62, level+0.15*rough)
		c = c.toward(p.snow, snow)
	}
	return c
}

// fill draws what a line raises above top, from the colours of the line before it
// to its own.
func (p *painter) fill(before, l *line, top []float32) {
	for x := range p.w {
		i, k := x/stride, float32(x%stride)/stride
		reach := mix(l.row[i], l.row[i+1], k)
		if reach > top[x]-0.25 {
			continue
		}
		from, fromWet := before.at(i, k)
		to, toWet := l.at(i, k)
		mark := uint8(dry)
		switch {
		case fromWet && toWet:
			mark = wet
		case fromWet:
			from = to
		case toWet:
			to = from
		case l.z < 3:
			mark = meadow
		}
		if mark == wet {
			// Whole pixels only: mirror could not tell which part of one is water.
			reach = float32(math.Ceil(float64(reach)))
		}
		p.raise(x, &top[x], span{
			reach: reach, bottom: mix(before.row[i], before.row[i+1], k),
			from: from, to: to, rough: before.rough[i], mark: mark,
		})
	}
}

// canopy is the height of the tallest trees in the distance.
const canopy = 0.16

// woods draws the trees that stand on a line, one in each cell of its width.
func (p *painter) woods(l *line, top []float32) {
	const width = 0.1
	shine, _, _ := p.sunlight()
	number := int(l.random % (side * side))
	offset := float32(l.random%1024) / 1024
	for x := range p.w {
		i := x / stride
		if l.woods[i] <= 0 {
			continue
		}
		side := p.side(x, l.z)/width + offset
		cell := floor(side)
		random := p.noise.pick(cell*73 + number)
		random2 := p.noise.pick(cell*191 + number*7)
		if 0.5+0.5*random > l.woods[i]*0.6 {
			continue
		}
		away := (side - float32(cell) - 0.5 - 0.15*random2) / 0.34
		tall := (1 - abs(away)) * (0.75 + 0.25*random2) * canopy
		if tall <= 0 {
			continue
		}
		foot := mix(l.row[i], l.row[i+1], float32(x%stride)/stride)
		reach := foot - tall*p.focus/l.z*(1+0.25*p.texture.at(x, number))
		if reach > top[x]-0.25 {
			continue
		}
		c := l.trees[i].scale((1 + 0.5*random2) * (1 + 0.5*away*shine))
		p.raise(x, &top[x], span{reach: reach, bottom: foot, from: c.scale(0.3), to: c.scale(1.15), rough: 1.6 * l.rough[i], mark: dry})
	}
}

// span is a vertical piece of the picture, one column wide.
type span struct {
	bottom, reach float32 // from which row up to which
	from, to      rgb     // the colours there
	rough         float32
	mark          uint8
}

// raise draws the part of a span that is above top, and moves top there.
func (p *painter) raise(x int, top *float32, s span) {
	reach := max(s.reach, 0)
	scale := 1 / max(s.bottom-reach, 0.0001)
	for y := int(math.Ceil(float64(*top))) - 1; y >= int(reach); y-- {
		c := s.from.toward(s.to, clamp((s.bottom-float32(y)-0.5)*scale))
		if s.mark != wet {
			c = c.scale(1 + s.rough*p.texture.at(x, y))
		}
		pixel := p.Pix[y*p.Stride+4*x : y*p.Stride+4*x+4]
		pixel[3] = s.mark
		covered := min(*top, float32(y+1)) - max(reach, float32(y))
		if covered > 0.99 || y == 0 {
			c.put(pixel)
			continue
		}
		// The part of the pixel that nothing covers still shows the sky, which is
		// also what the pixel above it shows.
		var drawn [3]uint8
		c.put(drawn[:])
		sky := p.Pix[(y-1)*p.Stride+4*x:]
		for i := range drawn {
			v := float32(pixel[i]) + covered*(float32(drawn[i])-float32(sky[i]))
			pixel[i] = uint8(min(max(v+0.5, 0), 255))
		}
	}
	*top = min(*top, reach)
}
