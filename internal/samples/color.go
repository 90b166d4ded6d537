package samples

import "math"

// rgb is a colour in linear light, so that sums and mixtures are physically
// correct. A channel is 1 for bright paper, and far more for the sun.
type rgb struct{ r, g, b float32 }

// hex converts an sRGB colour, such as 0x87ceeb, to linear light.
func hex(code uint32) rgb {
	channel := func(shift int) float32 {
		return float32(math.Pow(float64(code>>shift&0xff)/255, 2.2))
	}
	return rgb{channel(16), channel(8), channel(0)}
}

func (c rgb) add(d rgb) rgb       { return rgb{c.r + d.r, c.g + d.g, c.b + d.b} }
func (c rgb) mul(d rgb) rgb       { return rgb{c.r * d.r, c.g * d.g, c.b * d.b} }
func (c rgb) scale(k float32) rgb { return rgb{c.r * k, c.g * k, c.b * k} }

// lerp interpolates from c to d as t goes from 0 to 1.
func (c rgb) lerp(d rgb, t float32) rgb {
	return rgb{lerp(c.r, d.r, t), lerp(c.g, d.g, t), lerp(c.b, d.b, t)}
}

// store writes the colour to an RGBA pixel, but not its alpha.
func (c rgb) store(pixel []uint8) {
	pixel[0], pixel[1], pixel[2] = toneMap(c.r), toneMap(c.g), toneMap(c.b)
}

// toneCurve maps the square root of a channel's linear light, from 0 to 2, to
// its 8-bit value. The square root gives dark tones, where the eye sees smaller
// differences, more of the table's entries.
var toneCurve = func() (table [4096]uint8) {
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

// toneMap converts linear light to the value of an 8-bit channel.
func toneMap(light float32) uint8 {
	root := float32(math.Sqrt(float64(max(light, 0))))
	return toneCurve[min(int(root*(float32(len(toneCurve)-1)/2)), len(toneCurve)-1)]
}
