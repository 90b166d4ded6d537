package samples

import "math/rand/v2"

// side is how many lattice points the noise has in each direction before it
// repeats. A power of two, so that wrapping is a mask; the table then takes
// 256 KiB, which a core's second cache holds.
const side = 256

// noise is smooth value noise over the plane: a random value from -1 to 1 at each
// lattice point, interpolated between.
type noise struct {
	lattice [side * side]float32
}

func newNoise(random *rand.Rand) *noise {
	n := new(noise)
	for i := range n.lattice {
		n.lattice[i] = random.Float32()*2 - 1
	}
	return n
}

// at gives the noise at a point, from -1 to 1.
func (n *noise) at(x, y float32) float32 {
	left, top := floor(x), floor(y)
	x, y = x-float32(left), y-float32(top)
	x0, x1 := left&(side-1), (left+1)&(side-1)
	y0, y1 := top&(side-1)*side, (top+1)&(side-1)*side
	a, b := n.lattice[y0+x0], n.lattice[y0+x1]
	c, d := n.lattice[y1+x0], n.lattice[y1+x1]
	u, v := x*x*(3-2*x), y*y*(3-2*y)
	upper, lower := a+(b-a)*u, c+(d-c)*u
	return upper + (lower-upper)*v
}

// slope is at, together with how steeply the noise rises along x and y. Its
// interpolation is smoother, so that the slopes have no creases.
func (n *noise) slope(x, y float32) (value, dx, dy float32) {
	left, top := floor(x), floor(y)
	x, y = x-float32(left), y-float32(top)
	x0, x1 := left&(side-1), (left+1)&(side-1)
	y0, y1 := top&(side-1)*side, (top+1)&(side-1)*side
	a, b := n.lattice[y0+x0], n.lattice[y0+x1]
	c, d := n.lattice[y1+x0], n.lattice[y1+x1]
	u, v := x*x*x*(x*(x*6-15)+10), y*y*y*(y*(y*6-15)+10)
	du, dv := 30*x*x*(x*(x-2)+1), 30*y*y*(y*(y-2)+1)
	k := a - b - c + d
	return a + (b-a)*u + (c-a)*v + k*u*v, du * (b - a + k*v), dv * (c - a + k*u)
}

// pick gives one of the lattice's values, the same for the same number.
func (n *noise) pick(number int) float32 { return n.lattice[number&(side*side-1)] }

// fractal adds octaves of the noise, each twice as fine and half as strong as the
// one before. Most of it lies within -1 and 1.
func (n *noise) fractal(x, y float32, octaves int) float32 {
	var sum float32
	for strength := float32(0.6); octaves > 0; octaves-- {
		sum += strength * n.at(x, y)
		x, y = turn(x, y)
		strength /= 2
	}
	return sum
}

// eroded is fractal noise whose fine octaves fade where the coarse ones are
// steep. Slopes then run smoothly into valleys while ridges stay sharp, as
// weather leaves them. Most of it lies within 0 and 1.
func (n *noise) eroded(x, y float32, octaves int) float32 {
	var sum, dx, dy float32
	for strength := float32(0.5); octaves > 0; octaves-- {
		value, sx, sy := n.slope(x, y)
		dx += sx / 2
		dy += sy / 2
		sum += strength * (0.5 + 0.5*value) / (1 + dx*dx + dy*dy)
		x, y = turn(x, y)
		strength /= 2
	}
	return sum * 1.3
}

// turn doubles the frequency and rotates by the angle of a 3-4-5 triangle, so
// that the lattices of two octaves never line up.
func turn(x, y float32) (float32, float32) {
	return 2 * (0.8*x - 0.6*y), 2 * (0.6*x + 0.8*y)
}

func floor(x float32) int {
	i := int(x)
	if float32(i) > x {
		i--
	}
	return i
}

// mix goes from a to b as t goes from 0 to 1.
func mix(a, b, t float32) float32 { return a + (b-a)*t }

// step goes smoothly from 0 at from to 1 at to, and is flat outside.
func step(from, to, x float32) float32 {
	t := clamp((x - from) / (to - from))
	return t * t * (3 - 2*t)
}

func clamp(x float32) float32 { return min(max(x, 0), 1) }
