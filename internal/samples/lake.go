package samples

// drawReflection fills the lake's pixels with the picture above the nearest
// shore, upside down and displaced by ripples, mixed with the colour of the
// water.
func (p *painter) drawReflection() {
	if !p.lake {
		return
	}
	var glare [3]uint8
	p.sun.scale(1.5).store(glare[:])
	shore := make([]int, p.w)
	for y := range p.h {
		row := p.Pix[y*p.Stride : (y+1)*p.Stride]
		// The distance of the surface, which the camera looks down at.
		z := p.eye * p.focus / max(float32(y)-p.horizon, 0.5)
		near := clamp01(8 / z)
		steep := clamp01((float32(y) - p.horizon) / (float32(p.h) - p.horizon))
		for x := range p.w {
			pixel := row[4*x : 4*x+4]
			if pixel[3] != markWater {
				shore[x] = y
				continue
			}
			side := p.worldX(x, z)
			ripple := p.noise.at(side*9, z*11) + 0.6*p.noise.at(side*31+5, z*37)
			swell := p.noise.at(side*0.7, z*1.3)
			depth := y - shore[x]
			move := ripple * float32(p.h) * 0.006 * near * (0.4 + 0.6*abs(swell)) * clamp01(float32(depth)/30)
			from := min(max(float32(shore[x]-depth)-move*2.5, 0), float32(y-1))
			fromX := min(max(x+int(move*0.5), 0), p.w-1)
			upper := p.Pix[int(from)*p.Stride+4*fromX:]
			lower := upper[min(p.Stride, len(upper)-4):]
			between := from - float32(int(from))
			// Water reflects less at a steeper angle.
			share := 0.86 - 0.5*steep + 0.06*swell + 0.04*ripple
			glint := float32(0)
			if !p.sunBehind {
				dx, _ := p.offsetFromSun(float32(x), 0)
				glint = smoothstep(0.3, 1.1, ripple+0.5*swell) * exp(-dx*dx*90) * near
				if min(upper[0], upper[1], upper[2]) > 240 { // the sun itself
					share = 0.85
				}
			}
			for i := range 3 {
				shown := lerp(float32(upper[i]), float32(lower[i]), between)
				pixel[i] = uint8(lerp(lerp(float32(pixel[i]), shown, share), float32(glare[i]), 0.7*glint))
			}
			pixel[3] = markOther
		}
	}
}
