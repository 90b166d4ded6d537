package samples

import "math"

// rgb is a colour in linear light, where adding and mixing mean what they mean
// in nature. 1 is bright paper; the sun is far above that.
type rgb struct{ r, g, b float32 }

// hex reads a colour as web pages write it, such as 0x87ceeb.
func hex(code uint32) rgb {
	channel := func(shift int) float32 {
		return float32(math.Pow(float64(code>>shift&0xff)/255, 2.2))
	}
	return rgb{channel(16), channel(8), channel(0)}
}

func (c rgb) plus(d rgb) rgb      { return rgb{c.r + d.r, c.g + d.g, c.b + d.b} }
func (c rgb) times(d rgb) rgb     { return rgb{c.r * d.r, c.g * d.g, c.b * d.b} }
func (c rgb) scale(k float32) rgb { return rgb{c.r * k, c.g * k, c.b * k} }
func (c rgb) toward(d rgb, t float32) rgb {
	return rgb{mix(c.r, d.r, t), mix(c.g, d.g, t), mix(c.b, d.b, t)}
}
func (c rgb) put(pixel []uint8) {
	pixel[0], pixel[1], pixel[2] = develop(c.r), develop(c.g), develop(c.b)
}

// film is the response of the camera: how bright a channel comes out for the
// square root of the light that fell in. The root spends the table's entries
// where the eye sees the difference.
var film = func() (table [4096]uint8) {
	for i := range table {
		root := float64(i) / float64(len(table)-1) * 2
		light := root * root
		// Narkowicz's fit of the ACES curve: dark tones keep their contrast and
		// bright ones roll off instead of clipping.
		light = light * (2.51*light + 0.03) / (light*(2.43*light+0.59) + 0.14)
		table[i] = uint8(math.Round(255 * math.Pow(min(light, 1), 1/2.2)))
	}
	return table
}()

// develop turns light into the value of one 8-bit channel.
func develop(light float32) uint8 {
	root := float32(math.Sqrt(float64(max(light, 0))))
	return film[min(int(root*(float32(len(film)-1)/2)), len(film)-1)]
}
