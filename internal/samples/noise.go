package samples

import "math/rand/v2"

// latticeSize is the number of lattice points in each direction, after which
// the noise repeats. It is a power of two, so that a mask wraps an index, and
// the table's 256 KiB fit into a core's L2 cache.
const latticeSize = 256

// noise is value noise: each lattice point of the plane has a random value from
// -1 to 1, and the points between are interpolated.
type noise struct {
	lattice [latticeSize * latticeSize]float32
}

func newNoise(random *rand.Rand) *noise {
	n := new(noise)
	for i := range n.lattice {
		n.lattice[i] = random.Float32()*2 - 1
	}
	return n
}

// at returns the noise at a point, from -1 to 1.
func (n *noise) at(x, y float32) float32 {
	left, top := floor(x), floor(y)
	x, y = x-float32(left), y-float32(top)
	x0, x1 := left&(latticeSize-1), (left+1)&(latticeSize-1)
	y0, y1 := top&(latticeSize-1)*latticeSize, (top+1)&(latticeSize-1)*latticeSize
	a, b := n.lattice[y0+x0], n.lattice[y0+x1]
	c, d := n.lattice[y1+x0], n.lattice[y1+x1]
	u, v := x*x*(3-2*x), y*y*(3-2*y)
	upper, lower := a+(b-a)*u, c+(d-c)*u
	return upper + (lower-upper)*v
}

// atWithSlope returns the noise at a point, and its derivatives along x and y.
// It interpolates with a polynomial of a higher degree than at does, so that
// the derivatives are continuous and slopes have no creases.
func (n *noise) atWithSlope(x, y float32) (value, dx, dy float32) {
	left, top := floor(x), floor(y)
	x, y = x-float32(left), y-float32(top)
	x0, x1 := left&(latticeSize-1), (left+1)&(latticeSize-1)
	y0, y1 := top&(latticeSize-1)*latticeSize, (top+1)&(latticeSize-1)*latticeSize
	a, b := n.lattice[y0+x0], n.lattice[y0+x1]
	c, d := n.lattice[y1+x0], n.lattice[y1+x1]
	u, v := x*x*x*(x*(x*6-15)+10), y*y*y*(y*(y*6-15)+10)
	du, dv := 30*x*x*(x*(x-2)+1), 30*y*y*(y*(y-2)+1)
	k := a - b - c + d
	return a + (b-a)*u + (c-a)*v + k*u*v, du * (b - a + k*v), dv * (c - a + k*u)
}

// latticeValue returns a random value from -1 to 1 that depends on number
// alone.
func (n *noise) latticeValue(number int) float32 {
	return n.lattice[number&(latticeSize*latticeSize-1)]
}

// fractal returns the sum of octaves of the noise, each with twice the
// frequency and half the amplitude of the one before. It is mostly from -1 to
// 1.
func (n *noise) fractal(x, y float32, octaves int) float32 {
	var sum float32
	for strength := float32(0.6); octaves > 0; octaves-- {
		sum += strength * n.at(x, y)
		x, y = nextOctave(x, y)
		strength /= 2
	}
	return sum
}

// eroded returns fractal noise whose fine octaves fade where the coarse ones
// are steep, so that it looks like eroded mountains: smooth slopes and valleys
// under sharp ridges. It is mostly from 0 to 1.
func (n *noise) eroded(x, y float32, octaves int) float32 {
	var sum, dx, dy float32
	for strength := float32(0.5); octaves > 0; octaves-- {
		value, sx, sy := n.atWithSlope(x, y)
		dx += sx / 2
		dy += sy / 2
		sum += strength * (0.5 + 0.5*value) / (1 + dx*dx + dy*dy)
		x, y = nextOctave(x, y)
		strength /= 2
	}
	return sum * 1.3
}

// nextOctave doubles the frequency and rotates by the angle of a 3-4-5
// triangle, so that the lattices of two octaves never coincide.
func nextOctave(x, y float32) (float32, float32) {
	return 2 * (0.8*x - 0.6*y), 2 * (0.6*x + 0.8*y)
}

func floor(x float32) int {
	i := int(x)
	if float32(i) > x {
		i--
	}
	return i
}

// lerp interpolates from a to b as t goes from 0 to 1.
func lerp(a, b, t float32) float32 { return a + (b-a)*t }

// smoothstep rises smoothly from 0 at from to 1 at to, and is constant outside.
func smoothstep(from, to, x float32) float32 {
	t := clamp01((x - from) / (to - from))
	return t * t * (3 - 2*t)
}

func clamp01(x float32) float32 { return min(max(x, 0), 1) }
