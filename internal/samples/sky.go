package samples

import "math"

// skyColor returns the colour of the cloudless sky at a pixel.
func (p *painter) skyColor(x, y float32) rgb {
	up := (p.horizon - y) / p.horizon
	c := p.mood.horizon.lerp(p.middle, smoothstep(0, 0.45, up)).lerp(p.zenith, smoothstep(0.15, 1.1, up))
	if p.sunBehind {
		return c
	}
	dx, dy := p.offsetFromSun(x, y)
	distance := float32(math.Sqrt(float64(dx*dx + dy*dy)))
	c = c.add(p.sun.scale(p.glow * (0.8*exp(-distance*11) + 0.15*exp(-distance*3))))
	return c.add(p.sun.scale(14 * smoothstep(0.02, 0.017, distance)))
}

// hazeColor returns the colour that distant objects fade to in a column.
// Against the light it is darker than the sky, so that the mountains stand out.
func (p *painter) hazeColor(x float32) rgb {
	if p.sunBehind {
		return p.mood.horizon.lerp(p.middle, 0.25)
	}
	dx, _ := p.offsetFromSun(x, 0)
	c := p.mood.horizon.lerp(p.middle, 0.6).scale(0.6)
	return c.add(p.sun.scale(p.glow * 0.3 * exp(-dx*dx*25)))
}

// offsetFromSun returns the offset of a pixel from the sun, as parts of the
// longer side.
func (p *painter) offsetFromSun(x, y float32) (dx, dy float32) {
	long := float32(max(p.w, p.h))
	sunY := p.horizon - p.elevation*float32(p.h)*0.6
	return (x - p.sunX*float32(p.w)) / long, (y - sunY) / long
}

// cloud returns how much of the sky a cloud covers at a pixel, 0 to 1, and how
// much sunlight it receives there, 0 to 1. Clouds are in a flat layer, so they
// look flatter towards the horizon.
func (p *painter) cloud(x, y float32) (cover, lit float32) {
	rise := (p.horizon - y) / p.focus
	if p.clouds == 0 || rise <= 0 {
		return 0, 0
	}
	away := 1 / (rise + 0.09)
	u, v := (x-p.sunX*float32(p.w))/p.focus*away*1.1+p.dx, away*0.9+p.dz
	density := p.noise.fractal(u, v, 6)
	threshold := 0.75 - 1.1*p.clouds
	cover = smoothstep(threshold, threshold+0.4, density)
	if cover == 0 {
		return 0, 0
	}
	toward := float32(0.22)
	if p.sunBehind {
		toward = -0.22
	}
	lit = clamp01(0.55 + 1.3*(density-p.noise.fractal(u+0.1, v+toward, 4)))
	return cover * smoothstep(0, 0.1, rise), lit
}

// drawSky fills the picture down to the horizon, and below it repeats the last
// row, which the terrain blends into.
func (p *painter) drawSky() {
	// The sky has no fine detail: it is computed on a grid and interpolated.
	cell := max(1, max(p.w, p.h)/1000)
	bottom := min(p.h, int(p.horizon)+2*cell+2)
	columns := p.w/cell + 2
	above, below := make([]rgb, columns), make([]rgb, columns)
	compute := func(row []rgb, y int) {
		for i := range row {
			x := float32(i * cell)
			c := p.skyColor(x, float32(y))
			cover, lit := p.cloud(x, float32(y))
			if p.stars {
				c = c.add(starlight.scale(p.milkyWayLight(x, float32(y))))
			}
			row[i] = c.lerp(p.cloudDim.lerp(p.cloudLit, lit), cover*0.95)
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
			left, right := above[i].lerp(below[i], v), above[i+1].lerp(below[i+1], v)
			for k := 0; k < cell && x < p.w; k, x = k+1, x+1 {
				left.lerp(right, float32(k)/float32(cell)).store(row[4*x:])
				row[4*x+3] = 255
			}
		}
	}
	for y := bottom; y < p.h; y++ {
		copy(p.Pix[y*p.Stride:(y+1)*p.Stride], p.Pix[(bottom-1)*p.Stride:])
	}
	if p.stars {
		p.drawStars()
	}
}

// starlight is the colour of the Milky Way.
var starlight = hex(0x8090c0)

// milkyWayLight returns the brightness of the Milky Way at a pixel.
func (p *painter) milkyWayLight(x, y float32) float32 {
	away := p.distanceFromMilkyWay(x, y)
	if y > p.horizon {
		return 0
	}
	u, v := x/p.focus*6+p.dx, y/p.focus*6
	return 0.09 * exp(-away*away*22) * clamp01(0.6+1.1*p.noise.fractal(u, v, 5)) * smoothstep(p.horizon, p.horizon*0.6, y)
}

// distanceFromMilkyWay returns the signed distance of a pixel from the middle
// line of the Milky Way.
func (p *painter) distanceFromMilkyWay(x, y float32) float32 {
	return (x-0.62*float32(p.w))/float32(p.w)*0.9 + (y/p.horizon-0.4)*0.6
}

// drawStars adds stars, most of them faint, and more of them near the Milky
// Way.
func (p *painter) drawStars() {
	size := float32(max(p.w, p.h)) / 3000
	for range 9000 {
		x, y := p.random.Float32(), p.random.Float32()
		x, y = x*float32(p.w), y*p.horizon
		band := p.distanceFromMilkyWay(x, y)
		chance := 0.25 + 0.75*exp(-band*band*30)
		faint := p.random.Float32()
		tint := p.random.Float32()
		if p.random.Float32() > chance*smoothstep(1, 0.75, y/p.horizon) {
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
