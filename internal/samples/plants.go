package samples

import (
	"cmp"
	"math"
	"slices"
)

// blossoms are the colours of the flowers.
var blossoms = [...]rgb{hex(0xf4e04d), hex(0xffffff), hex(0xb06ad0), hex(0xe8506a)}

// drawGrass draws grass on the meadow in front of the camera, blade by blade,
// and flowers on some blades.
func (p *painter) drawGrass() {
	if p.tufts == 0 {
		return
	}
	lx, _, _ := p.sunDirection()
	scale := float32(max(p.w, p.h)) / 3000
	type tuft struct{ x, y int }
	var tufts []tuft
	below := p.h - int(p.horizon)
	for range 26000 {
		// More are far away, where they are small. Some have their root below
		// the picture, and only their tip in it.
		depth := p.random.Float32()
		t := tuft{p.random.IntN(p.w), int(p.horizon) + int(float32(below)*lerp(depth*depth, depth, 0.5)*1.15)}
		if root := min(t.y, p.h-1); p.Pix[root*p.Stride+4*t.x+3] == markMeadow {
			tufts = append(tufts, t)
		}
	}
	slices.SortFunc(tufts, func(a, b tuft) int { return cmp.Or(a.y-b.y, a.x-b.x) })
	light := p.sun.scale(0.5).add(p.ambient)
	for _, t := range tufts {
		random, random2 := p.random.Float32(), p.random.Float32()
		depth := (float32(t.y) - p.horizon) / float32(below)
		patch := p.noise.at(float32(t.x)/(160*scale), float32(t.y)/(60*scale))
		if p.tufts*1.2-0.6+0.5*patch < random-0.5 {
			continue
		}
		height := scale * depth * lerp(25, 85, random2) * (1 + 0.3*patch)
		lean := (random - 0.5 + 0.3*patch) * height * 0.8
		width := max(scale*depth*3.2, 0.7)
		base := p.grass.lerp(p.forest, random2*0.5).lerp(p.rock, 0.25*random).scale(0.6 + 0.9*random)
		flower := p.flowers > 0 && random2 < p.flowers*(0.5+patch)
		for s := float32(0); s < height; s++ {
			k := s / height
			y := t.y - int(s)
			if y >= p.h || y < 0 {
				continue
			}
			x := float32(t.x) + lean*k*k
			half := width * (1 - k) / 2
			p.fillRow(x-half, x+half+0.5, y, base.mul(light).scale(0.3+0.9*k+0.1*lx))
		}
		if flower {
			color := blossoms[int(random*997)%len(blossoms)]
			radius := width * 1.5
			for y := -radius; y <= radius; y++ {
				p.fillRow(float32(t.x)+lean-radius+abs(y)/2, float32(t.x)+lean+radius-abs(y)/2, t.y-int(height+y), color.mul(light).scale(1.1))
			}
		}
	}
}

// fillRow fills a row between two columns, with antialiased ends.
func (p *painter) fillRow(from, to float32, y int, c rgb) {
	if y < 0 || y >= p.h {
		return
	}
	var drawn [3]uint8
	c.store(drawn[:])
	for x := max(int(from), 0); x < p.w && float32(x) < to; x++ {
		cover := clamp01(min(to, float32(x+1)) - max(from, float32(x)))
		pixel := p.Pix[y*p.Stride+4*x:]
		for i := range drawn {
			pixel[i] = uint8(lerp(float32(pixel[i]), float32(drawn[i]), cover))
		}
	}
}

// drawFirs draws firs at one side of the picture, or at both.
func (p *painter) drawFirs() {
	if !p.firsBeside {
		return
	}
	left := p.random.Float32() < 0.5
	p.drawFirGroup(left, 1, 6)
	if p.random.Float32() < 0.6 {
		p.drawFirGroup(!left, 0.6, 4)
	}
}

// drawFirGroup draws count firs, from far to near.
func (p *painter) drawFirGroup(left bool, size float32, count int) {
	for i := range count {
		near := (float32(i) + p.random.Float32()) / float32(count)
		height := float32(p.h) * size * lerp(0.28, 0.75, near) * lerp(0.75, 1.15, p.random.Float32())
		x := float32(p.w) * 0.32 * size * (1 - near*0.95 + 0.3*(p.random.Float32()-0.5))
		if !left {
			x = float32(p.w) - x
		}
		p.drawFir(x, float32(p.h)*lerp(0.92, 1.1, near), height)
	}
}

// drawFir draws one tree branch by branch: from the lowest tier to the highest,
// whose branches hang over the lower ones, and in each tier from back to front.
func (p *painter) drawFir(x, foot, height float32) {
	lx, _, _ := p.sunDirection()
	radius := height * lerp(0.15, 0.2, p.random.Float32())
	tint := lerp(0.75, 1.25, p.random.Float32())
	shadow, shine := p.ambient.scale(0.5), p.sun.scale(0.9)
	frosted := p.snowline <= 0
	const tiers = 34
	const branches = 22
	for tier := tiers; tier >= 0; tier-- {
		t := (float32(tier) + 0.3*p.random.Float32()) / tiers
		start := foot - height + height*0.97*t
		for branch := range branches {
			// The branch's direction: from -1, away from the camera, to 1,
			// towards it.
			toward := float32(branch)/branches*2 - 1
			across := (p.random.Float32()*2 - 1) * float32(math.Sqrt(float64(1-toward*toward*0.8)))
			length := radius * (0.02 + t) * abs(across) * lerp(0.75, 1.12, p.random.Float32())
			droop := lerp(0.35, 0.6, p.random.Float32())
			thick := max(radius*(0.03+0.05*t), 1)
			y0 := start + radius*(0.1*toward+0.25*max(toward, 0)*t) + height/tiers*(p.random.Float32()-0.5)
			light := (0.35 + 0.3*toward + 0.35*across*lx/max(abs(lx), 0.3)) * lerp(0.6, 1.2, p.random.Float32())
			for dx := float32(0); dx <= length; dx++ {
				out := dx / max(length, 1)
				px := x + dx
				if across < 0 {
					px = x - dx
				}
				y := y0 + droop*dx - 0.15*out*dx
				tip := y + thick*(1-0.7*out)*lerp(0.4, 1.3, p.random.Float32())
				bright := max(light*(0.45+0.75*out), 0)
				c := p.needles.scale(tint).mul(shadow.add(shine.scale(bright)))
				p.fillColumn(int(px), y-thick*0.25, tip, c.scale(1.25), c.scale(0.55))
				if frosted && toward > -0.3 {
					white := p.snow.mul(shadow.add(shine.scale(0.5 + 0.5*light)))
					p.fillColumn(int(px), y-thick*0.4, y+thick*0.1*(1-out), white, white)
				}
			}
		}
	}
}

// fillColumn fills a column between two rows, with antialiased ends.
func (p *painter) fillColumn(x int, from, to float32, upper, lower rgb) {
	if x < 0 || x >= p.w {
		return
	}
	for y := max(int(from), 0); y < p.h && float32(y) < to; y++ {
		cover := clamp01(min(to, float32(y+1)) - max(from, float32(y)))
		var drawn [3]uint8
		upper.lerp(lower, clamp01((float32(y)-from)/(to-from))).store(drawn[:])
		pixel := p.Pix[y*p.Stride+4*x:]
		for i := range drawn {
			pixel[i] = uint8(lerp(float32(pixel[i]), float32(drawn[i]), cover))
		}
	}
}
