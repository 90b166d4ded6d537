package samples

import (
	"math"
	"slices"
)

// Values of a pixel's alpha channel while the picture is drawn.
const (
	markWater  = 0   // the lake, for drawReflection
	markMeadow = 1   // the ground in front of the camera, for drawGrass
	markOther  = 255 // everything else, and every pixel of the finished picture
)

// columnStep is the distance of the columns whose heights are computed.
const columnStep = 4

// drawTerrain draws the ground from near to far. Each step computes one line of
// constant distance, projects it, and fills the pixels above all nearer lines:
//
//	        ╱╲ far        drawn last, where it is visible
//	  ╱╲  ╱    ╲
//	╱    ╲ near           drawn first, hides the lines behind it
//
// Heights are computed at every fourth column, on about half as many lines as
// the picture has rows, and interpolated between.
func (p *painter) drawTerrain() {
	columns := p.w/columnStep + 2
	near, middle, far := newLine(columns), newLine(columns), newLine(columns)
	top := make([]float32, p.w) // per column, the highest row drawn so far
	for x := range top {
		top[x] = float32(p.h)
	}
	p.peak = p.peakScale()
	pace := min(max(10/float32(p.h), 0.001), 0.03)
	for i, z := 0, float32(nearest)*0.8; z < farthest; i++ {
		p.computeHeights(far, z)
		if i > 0 {
			p.computeColors(middle, far, top) // its slopes need the line behind it
		}
		if i > 1 {
			p.drawTrees(near, top)
			p.drawGround(near, middle, top)
		}
		near, middle, far = middle, far, near
		// Hills slope towards the camera, so a line there covers more rows.
		z *= 1 + pace*lerp(1, 0.6, smoothstep(4, 8, z))
	}
}

// line is the ground at one distance from the camera, at the computed columns.
type line struct {
	z      float32
	random uint32 // decides the positions of the trees
	height []float32
	row    []float32 // of the picture, where the ground is
	woods  []float32 // density of the trees: none at 0, the most at 1
	color  []rgb
	rough  []float32 // contrast of the texture
	trees  []rgb     // the colour of a tree
	water  []bool
}

func newLine(n int) *line {
	return &line{
		height: make([]float32, n), row: make([]float32, n), woods: make([]float32, n), color: make([]rgb, n),
		rough: make([]float32, n), trees: make([]rgb, n), water: make([]bool, n),
	}
}

// at returns the colour between the computed columns i and i+1, and whether it
// is the lake's. k is the position between them, 0 to 1.
func (l *line) at(i int, k float32) (rgb, bool) {
	if l.water[i] != l.water[i+1] {
		if k >= 0.5 {
			i++
		}
		return l.color[i], l.water[i]
	}
	return l.color[i].lerp(l.color[i+1], k), l.water[i]
}

// worldX returns the distance of a column from the middle of the view, in
// units, at the distance z from the camera.
func (p *painter) worldX(x int, z float32) float32 {
	return (float32(x) - float32(p.w)/2) / p.focus * z
}

// shoreDistance returns the distance from the camera at which the lake or the
// plain ends and the hills begin.
func (p *painter) shoreDistance(x float32) float32 { return 9 + 5*p.noise.at(x/9+p.dz, 11) }

// mountainHeight returns the height of the mountains at a point, as a part of
// the highest possible one.
func (p *painter) mountainHeight(x, z float32, octaves int) float32 {
	beach := p.shoreDistance(x)
	envelope := smoothstep(beach, beach+50, z)
	if envelope == 0 {
		return 0
	}
	m := p.noise.eroded((x+p.dx)/p.wave, (z+p.dz)/p.wave, octaves)
	return envelope * m * m
}

// peakScale returns the factor for mountainHeight that puts the skyline at a
// random height of the picture.
func (p *painter) peakScale() float32 {
	steepest := float32(0.0001)
	for z := float32(10); z < farthest; z *= 1.04 {
		for x := 0; x < p.w; x += max(1, p.w/64) {
			steepest = max(steepest, p.mountainHeight(p.worldX(x, z), z, 4)/z)
		}
	}
	skyline := lerp(0.17, 0.3, p.random.Float32())
	if !p.sunBehind {
		skyline = lerp(0.36, 0.42, p.random.Float32()) // leaves room for the sun
	}
	return (p.horizon - skyline*float32(p.h)) / p.focus / steepest
}

// computeHeights sets the distance, the heights and the woods of a line.
func (p *painter) computeHeights(l *line, z float32) {
	l.z = z
	l.random = p.random.Uint32()
	// Octaves finer than the distance of the columns would alias.
	footprint := columnStep * z / p.focus
	octaves := min(max(int(math.Log2(float64(p.wave/footprint))), 3), 11)
	for i := range l.height {
		x := p.worldX(columnStep*i, z)
		shore := 1.9 + 0.9*p.noise.at(x*0.9+p.dx, 7) + 0.25*p.noise.at(x/3+p.dx, z/3)
		beach := p.shoreDistance(x)
		h := float32(-0.04)
		if !p.lake {
			h = p.duneHeight(x, z)
		}
		if front := smoothstep(shore, shore-0.9, z); front > 0 {
			h += front * (0.085 + 0.05*p.noise.fractal(x*2+p.dx, z*2, 9))
		}
		back := smoothstep(beach, beach+18, z)
		if back > 0 {
			h += back*(0.5+0.5*p.noise.fractal(x/5+p.dx, z/5, min(octaves, 7))) + 0.08*min(back*8, 1)
			h += p.peak * p.mountainHeight(x, z, octaves)
		}
		l.water[i] = p.lake && h <= 0
		l.woods[i] = 0
		if l.water[i] {
			h = 0
		} else if p.wooded > 0 && back > 0 && h > 0.02 {
			limit := 0.36 * p.peak
			l.woods[i] = p.wooded*1.5 - 0.55 + 0.8*p.noise.fractal(x/2.3+p.dz, z/2.3, 3) - 1.2*smoothstep(limit*0.5, limit, h)
		}
		l.height[i] = h
		l.row[i] = p.horizon - (h-p.eye)/z*p.focus
	}
}

// duneHeight returns the height of a sandy plain with long crests across the
// wind.
func (p *painter) duneHeight(x, z float32) float32 {
	bend := p.noise.at(x/6+p.dx, z/9)
	crest := 1 - smoothAbs(p.noise.at((x+z)/7+0.8*bend+p.dx, (z-x)/16))
	small := 1 - smoothAbs(p.noise.at(x*1.3+0.5*bend+p.dz, z*2.5+bend))
	return 0.16*crest*crest*min(z/4, 6) - 0.1 + 0.03*small*small + 0.003*p.noise.fractal(x*4, z*4, 4)
}

// smoothAbs approximates abs without its crease at 0.
func smoothAbs(x float32) float32 { return x * x / (abs(x) + 0.12) }

func abs(x float32) float32 { return max(x, -x) }

// computeColors sets the colours of a line where it is visible above top. It
// needs the next line for the slopes.
func (p *painter) computeColors(l, next *line, top []float32) {
	lx, ly, lz := p.sunDirection()
	n := len(l.height)
	shade := float32(-1000) // height of the shadow at this column
	for k := range n {
		i := k
		if lx > 0 {
			i = n - 1 - k
		}
		if l.water[i] {
			l.color[i], shade = p.water, -1000
			continue
		}
		x := p.worldX(columnStep*i, l.z)
		h := l.height[i]
		left, right := max(i-1, 0), min(i+1, n-1)
		spacing := columnStep * l.z / p.focus
		sx := (l.height[right] - l.height[left]) / (spacing * float32(right-left))
		sz := (next.height[i]-h)/(next.z-l.z) - sx*x/l.z
		level := 1 / float32(math.Sqrt(float64(sx*sx+sz*sz+1)))
		facing := max(0, (-sx*lx+ly-sz*lz)*level)
		shade = max(shade-spacing*ly/max(abs(lx), 0.2), h)
		if min(slices.Min(next.row[left:right+1]), slices.Min(l.row[left:right+1])-maxTreeHeight*p.focus/l.z) >
			slices.Max(top[min(columnStep*left, p.w-1):min(columnStep*right+1, p.w)]) {
			continue
		}
		open := 1 - 0.85*smoothstep(0, 0.02*l.z, shade-h)

		light := p.sun.scale(facing * open).add(p.ambient.scale(0.6 + 0.4*level))
		haze := p.hazeColor(float32(columnStep * i))
		share := 1 - exp(-p.haze*max(l.z-3, 0)*(1.2-0.6*clamp01(h/p.peak)))
		l.color[i] = p.groundColor(x, l.z, h, level).mul(light).lerp(haze, share)
		l.rough[i] = 0.3 * (1 - share)
		if l.woods[i] > 0 {
			light = p.sun.scale((0.3 + 0.5*facing) * open).add(p.ambient.scale(0.7))
			l.trees[i] = p.forest.mul(light).lerp(haze, share)
		}
	}
}

// sunDirection returns the unit vector towards the sun.
func (p *painter) sunDirection() (x, y, z float32) {
	x, y, z = 2*p.sunX-1, 0.25+0.6*p.elevation, 0.75
	if abs(x) < 0.35 {
		x = float32(math.Copysign(0.35, float64(x)))
	}
	if p.sunBehind {
		x, z = 3*x, -0.35
	}
	length := float32(math.Sqrt(float64(x*x + y*y + z*z)))
	return x / length, y / length, z / length
}

// groundColor returns the colour of the ground in white light. level is 1 where
// the ground is flat, and less the steeper it is.
func (p *painter) groundColor(x, z, h, level float32) rgb {
	rough := p.noise.fractal(x*1.7, z*1.7+h*6, 4)
	strata := p.rock.scale(0.8 + 0.3*rough + 0.15*p.noise.at(h*8, x*0.3))
	c := p.grass.scale(0.85 + 0.35*rough)
	c = c.lerp(p.forest, clamp01(0.35+0.6*p.noise.at(x/1.4, z/1.4))*0.5)
	if h > 0.5 {
		c = c.lerp(strata, max(smoothstep(0.86, 0.7, level+0.08*rough), smoothstep(0.25, 0.45, h/p.peak+0.1*rough)))
	}
	if p.lake {
		c = c.lerp(strata, smoothstep(0.03, 0.005, h)*0.8)
	}
	if p.snowline < 1 {
		snow := smoothstep(p.snowline-0.05, p.snowline+0.12, h/p.peak+0.12*rough) * smoothstep(0.38, 0.62, level+0.15*rough)
		c = c.lerp(p.snow, snow)
	}
	return c
}

// drawGround draws the ground between the line before and l, where it is above
// top.
func (p *painter) drawGround(before, l *line, top []float32) {
	for x := range p.w {
		i, k := x/columnStep, float32(x%columnStep)/columnStep
		reach := lerp(l.row[i], l.row[i+1], k)
		if reach > top[x]-0.25 {
			continue
		}
		from, fromWet := before.at(i, k)
		to, toWet := l.at(i, k)
		mark := uint8(markOther)
		switch {
		case fromWet && toWet:
			mark = markWater
		case fromWet:
			from = to
		case toWet:
			to = from
		case l.z < 3:
			mark = markMeadow
		}
		if mark == markWater {
			// Whole pixels only: drawReflection cannot mix a pixel's land and
			// water.
			reach = float32(math.Ceil(float64(reach)))
		}
		p.drawSpan(x, &top[x], span{
			reach: reach, bottom: lerp(before.row[i], before.row[i+1], k),
			from: from, to: to, rough: before.rough[i], mark: mark,
		})
	}
}

// maxTreeHeight is the height of the tallest distant trees, in units.
const maxTreeHeight = 0.16

// drawTrees draws the trees on a line, at most one in each cell of its width.
func (p *painter) drawTrees(l *line, top []float32) {
	const width = 0.1
	shine, _, _ := p.sunDirection()
	number := int(l.random % (latticeSize * latticeSize))
	offset := float32(l.random%1024) / 1024
	for x := range p.w {
		i := x / columnStep
		if l.woods[i] <= 0 {
			continue
		}
		side := p.worldX(x, l.z)/width + offset
		cell := floor(side)
		random := p.noise.latticeValue(cell*73 + number)
		random2 := p.noise.latticeValue(cell*191 + number*7)
		if 0.5+0.5*random > l.woods[i]*0.6 {
			continue
		}
		away := (side - float32(cell) - 0.5 - 0.15*random2) / 0.34
		tall := (1 - abs(away)) * (0.75 + 0.25*random2) * maxTreeHeight
		if tall <= 0 {
			continue
		}
		foot := lerp(l.row[i], l.row[i+1], float32(x%columnStep)/columnStep)
		reach := foot - tall*p.focus/l.z*(1+0.25*p.texture.at(x, number))
		if reach > top[x]-0.25 {
			continue
		}
		c := l.trees[i].scale((1 + 0.5*random2) * (1 + 0.5*away*shine))
		p.drawSpan(x, &top[x], span{reach: reach, bottom: foot, from: c.scale(0.3), to: c.scale(1.15), rough: 1.6 * l.rough[i], mark: markOther})
	}
}

// span is a part of one column of the picture.
type span struct {
	bottom, reach float32 // rows, from bottom up to reach
	from, to      rgb     // the colours at bottom and at reach
	rough         float32
	mark          uint8
}

// drawSpan draws the part of a span above top, and raises top to its reach.
func (p *painter) drawSpan(x int, top *float32, s span) {
	reach := max(s.reach, 0)
	scale := 1 / max(s.bottom-reach, 0.0001)
	for y := int(math.Ceil(float64(*top))) - 1; y >= int(reach); y-- {
		c := s.from.lerp(s.to, clamp01((s.bottom-float32(y)-0.5)*scale))
		if s.mark != markWater {
			c = c.scale(1 + s.rough*p.texture.at(x, y))
		}
		pixel := p.Pix[y*p.Stride+4*x : y*p.Stride+4*x+4]
		pixel[3] = s.mark
		covered := min(*top, float32(y+1)) - max(reach, float32(y))
		if covered > 0.99 || y == 0 {
			c.store(pixel)
			continue
		}
		// The uncovered part of the pixel shows the sky, whose colour the pixel
		// above has too.
		var drawn [3]uint8
		c.store(drawn[:])
		sky := p.Pix[(y-1)*p.Stride+4*x:]
		for i := range drawn {
			v := float32(pixel[i]) + covered*(float32(drawn[i])-float32(sky[i]))
			pixel[i] = uint8(min(max(v+0.5, 0), 255))
		}
	}
	*top = min(*top, reach)
}
