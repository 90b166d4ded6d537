package thumbnail

import (
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"math"
	"testing"

	"github.com/davidbyttow/govips/v2/vips"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// box32 halves the pictures of the tests of colours.
var box32 = []photo.Box{{Width: 32, Height: 32}}

// matrixProfile is an RGB colour space.
type matrixProfile struct {
	toXYZ  [3][3]float64           // from linear RGB to XYZ, adapted to D50 as ICC requires
	linear func(v float64) float64 // from an encoded channel, both from 0 to 1
}

// srgbLinear converts a channel of sRGB to linear light, both from 0 to 1.
func srgbLinear(v float64) float64 {
	if v <= 0.04045 {
		return v / 12.92
	}
	return math.Pow((v+0.055)/1.055, 2.4)
}

var (
	srgb = matrixProfile{
		toXYZ:  [3][3]float64{{0.43607, 0.38515, 0.14307}, {0.22249, 0.71687, 0.06061}, {0.01392, 0.09708, 0.71410}},
		linear: srgbLinear,
	}
	displayP3 = matrixProfile{
		toXYZ:  [3][3]float64{{0.51512, 0.29198, 0.15710}, {0.24120, 0.69225, 0.06657}, {-0.00105, 0.04189, 0.78407}},
		linear: srgbLinear,
	}
	adobeRGB = matrixProfile{
		toXYZ:  [3][3]float64{{0.60974, 0.20528, 0.14919}, {0.31111, 0.62567, 0.06322}, {0.01947, 0.06087, 0.74457}},
		linear: func(v float64) float64 { return math.Pow(v, 563.0/256) },
	}
)

// icc returns the profile as a minimal ICC version 2 file.
func (p matrixProfile) icc() []byte {
	s15f16 := func(v float64) []byte { return binary.BigEndian.AppendUint32(nil, uint32(int32(math.Round(v*65536)))) }
	xyz := func(x, y, z float64) []byte {
		b := []byte("XYZ \x00\x00\x00\x00")
		return append(append(append(b, s15f16(x)...), s15f16(y)...), s15f16(z)...)
	}
	curve := binary.BigEndian.AppendUint32([]byte("curv\x00\x00\x00\x00"), 1024)
	for i := range 1024 {
		curve = binary.BigEndian.AppendUint16(curve, uint16(math.Round(65535*p.linear(float64(i)/1023))))
	}
	desc := append([]byte("desc\x00\x00\x00\x00\x00\x00\x00\x05test\x00"), make([]byte, 78)...)
	return iccFile("RGB ", []iccTag{
		{"desc", desc}, {"cprt", []byte("text\x00\x00\x00\x00none\x00")}, {"wtpt", xyz(0.9642, 1, 0.8249)},
		{"rXYZ", xyz(p.toXYZ[0][0], p.toXYZ[1][0], p.toXYZ[2][0])},
		{"gXYZ", xyz(p.toXYZ[0][1], p.toXYZ[1][1], p.toXYZ[2][1])},
		{"bXYZ", xyz(p.toXYZ[0][2], p.toXYZ[1][2], p.toXYZ[2][2])},
		{"rTRC", curve}, {"gTRC", curve}, {"bTRC", curve},
	})
}

// greyICC returns a profile for grey pictures of the given gamma.
func greyICC(gamma float64) []byte {
	curve := binary.BigEndian.AppendUint32([]byte("curv\x00\x00\x00\x00"), 1)
	curve = binary.BigEndian.AppendUint16(curve, uint16(gamma*256))
	white := []byte("XYZ \x00\x00\x00\x00\x00\x00\xf6\xd6\x00\x01\x00\x00\x00\x00\xd3\x2d")
	desc := append([]byte("desc\x00\x00\x00\x00\x00\x00\x00\x05test\x00"), make([]byte, 78)...)
	return iccFile("GRAY", []iccTag{{"desc", desc}, {"cprt", []byte("text\x00\x00\x00\x00none\x00")}, {"wtpt", white}, {"kTRC", curve}})
}

type iccTag struct {
	name string
	body []byte
}

func iccFile(model string, tags []iccTag) []byte {
	be := binary.BigEndian
	head := make([]byte, 128)
	copy(head[8:], "\x02\x10\x00\x00mntr"+model+"XYZ ")
	copy(head[36:], "acsp")
	copy(head[68:], "\x00\x00\xf6\xd6\x00\x01\x00\x00\x00\x00\xd3\x2d") // D50
	table := be.AppendUint32(nil, uint32(len(tags)))
	var data []byte
	for _, tag := range tags {
		for len(tag.body)%4 != 0 {
			tag.body = append(tag.body, 0)
		}
		table = append(table, tag.name...)
		table = be.AppendUint32(table, uint32(128+4+12*len(tags)+len(data)))
		table = be.AppendUint32(table, uint32(len(tag.body)))
		data = append(data, tag.body...)
	}
	file := append(append(head, table...), data...)
	be.PutUint32(file, uint32(len(file)))
	return file
}

// inSRGB converts a colour in the profile to sRGB.
func (p matrixProfile) inSRGB(c color.NRGBA) color.NRGBA {
	rgb := [3]float64{p.linear(float64(c.R) / 255), p.linear(float64(c.G) / 255), p.linear(float64(c.B) / 255)}
	linear := multiply(invert(srgb.toXYZ), multiply(p.toXYZ, rgb))
	return color.NRGBA{R: srgbEncoded(linear[0]), G: srgbEncoded(linear[1]), B: srgbEncoded(linear[2]), A: c.A}
}

// srgbEncoded converts linear light to a channel of sRGB.
func srgbEncoded(v float64) uint8 {
	v = max(0, min(1, v))
	if v <= 0.0031308 {
		return uint8(math.Round(255 * 12.92 * v))
	}
	return uint8(math.Round(255 * (1.055*math.Pow(v, 1/2.4) - 0.055)))
}

func multiply(m [3][3]float64, v [3]float64) (out [3]float64) {
	for i := range 3 {
		for j := range 3 {
			out[i] += m[i][j] * v[j]
		}
	}
	return out
}

func invert(m [3][3]float64) (out [3][3]float64) {
	det := 0.0
	for i := range 3 {
		det += m[0][i] * (m[1][(i+1)%3]*m[2][(i+2)%3] - m[1][(i+2)%3]*m[2][(i+1)%3])
	}
	for i := range 3 {
		for j := range 3 {
			out[j][i] = (m[(i+1)%3][(j+1)%3]*m[(i+2)%3][(j+2)%3] - m[(i+1)%3][(j+2)%3]*m[(i+2)%3][(j+1)%3]) / det
		}
	}
	return out
}

func TestMakeConvertsProfilesToSRGB(t *testing.T) {
	t.Parallel()
	for name, profile := range map[string]matrixProfile{"Display P3": displayP3, "Adobe RGB": adobeRGB, "sRGB": srgb} {
		for _, c := range []color.NRGBA{
			{R: 200, G: 100, B: 50, A: 255},
			{R: 90, G: 160, B: 110, A: 255},
			{R: 60, G: 80, B: 170, A: 255},
			{R: 128, G: 128, B: 128, A: 255},
			white,
		} {
			t.Run(fmt.Sprint(name, " ", c), func(t *testing.T) {
				t.Parallel()
				want := profile.inSRGB(c)
				if name != "sRGB" && c.R != c.G {
					require.Greater(t, math.Abs(float64(want.R)-float64(c.R))+math.Abs(float64(want.G)-float64(c.G))+math.Abs(float64(want.B)-float64(c.B)), 10.0,
						"the conversion must change the colour, or the test proves nothing")
				}
				for _, source := range [][]byte{asJPEG(t, solid(64, 48, c), 100), asPNG(t, solid(64, 48, c))} {
					p := mustMake(t, withProfile(t, source, profile.icc()), Options{Boxes: box32, Format: photo.PNG})
					requireColour(t, want, at(decoded(t, p), 0.5, 0.5), 3)
				}
			})
		}
	}
}

// TestMakeIgnoresProfilesThatDoNotApply has the usual sRGB profile, which is
// skipped, and profiles that are invalid or for another kind of picture.
func TestMakeIgnoresProfilesThatDoNotApply(t *testing.T) {
	t.Parallel()
	usual := displayP3.icc() // changes colours if it is applied
	copy(usual[48:], "IEC sRGB")
	for name, profile := range map[string][]byte{
		"usual sRGB":     usual,
		"grey profile":   greyICC(1.0),
		"no profile":     []byte("not a profile"),
		"damaged header": append(make([]byte, 16), "RGB nonsense nonsense nonsense nonsense nonsense nonsense nonsense nonsense nonsense nonsense nonsense nonsense nonsense"...),
		"cut short":      displayP3.icc()[:200],
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, source := range [][]byte{asJPEG(t, corners(160, 120), 95), asPNG(t, corners(160, 120))} {
				p := mustMake(t, withProfile(t, source, profile), Options{Boxes: []photo.Box{{Width: 80, Height: 80}}})
				requireCorners(t, decoded(t, p), 10)
			}
		})
	}
	t.Run("CMYK profile on a transparent picture", func(t *testing.T) {
		t.Parallel()
		inks := vipsImage(t, solid(8, 8, white))
		defer inks.Close()
		require.NoError(t, inks.Flatten(nil))
		require.NoError(t, inks.TransformICCProfileWithFallback("cmyk", "srgb"))
		img := vipsImage(t, halfTransparent(160, 120))
		img.SetBlob("icc-profile-data", inks.GetICCProfile())
		p := mustMake(t, export(t, img, (*vips.ImageRef).ExportTiff, plainTIFF), Options{Boxes: []photo.Box{{Width: 80, Height: 80}}, Format: photo.PNG})
		requireColour(t, red, at(decoded(t, p), 0.25, 0.5), 3)
		requireColour(t, seeThrough, at(decoded(t, p), 0.75, 0.5), 3)
	})
	t.Run("colour profile on a grey picture", func(t *testing.T) {
		t.Parallel()
		grey := image.NewGray(image.Rect(0, 0, 64, 64))
		for i := range grey.Pix {
			grey.Pix[i] = 90
		}
		p := mustMake(t, withProfile(t, asJPEG(t, grey, 95), adobeRGB.icc()), Options{Boxes: box32})
		requireColour(t, color.NRGBA{R: 90, G: 90, B: 90, A: 255}, at(decoded(t, p), 0.5, 0.5), 2)
	})
}

func TestMakeGrey(t *testing.T) {
	t.Parallel()
	grey := image.NewGray(image.Rect(0, 0, 64, 48))
	deep := image.NewGray16(grey.Rect)
	for i := range grey.Pix {
		grey.Pix[i] = 90
	}
	for i := 0; i < len(deep.Pix); i += 2 {
		binary.BigEndian.PutUint16(deep.Pix[i:], 90*257)
	}
	withAlpha, err := vips.NewImageFromMemory([]byte{90, 255, 90, 0, 90, 255, 90, 0}, 4, 1, 2, vips.BandFormatUchar, vips.InterpretationBW)
	require.NoError(t, err)
	require.NoError(t, withAlpha.Zoom(16, 16))
	alpha := export(t, withAlpha, (*vips.ImageRef).ExportPng, *vips.NewPngExportParams())

	plain := color.NRGBA{R: 90, G: 90, B: 90, A: 255}
	linear := srgbEncoded(90.0 / 255)
	for name, tt := range map[string]struct {
		source []byte
		want   color.NRGBA
	}{
		"JPEG":         {asJPEG(t, grey, 95), plain},
		"PNG":          {asPNG(t, grey), plain},
		"16-bit PNG":   {asPNG(t, deep), plain},
		"with alpha":   {alpha, plain},
		"with profile": {withProfile(t, asPNG(t, grey), greyICC(1.0)), color.NRGBA{R: linear, G: linear, B: linear, A: 255}},
	} {
		for _, format := range photo.Formats {
			t.Run(fmt.Sprintf("%s to %s", name, format), func(t *testing.T) {
				t.Parallel()
				img := decoded(t, mustMake(t, tt.source, Options{Boxes: box32, Format: format}))
				requireColour(t, tt.want, at(img, 0.1, 0.5), 3)
				if name == "with alpha" && format == photo.JPEG {
					requireColour(t, white, at(img, 0.35, 0.5), 3)
				}
				if name == "with alpha" && format != photo.JPEG {
					requireColour(t, seeThrough, at(img, 0.35, 0.5), 3)
				}
			})
		}
	}
}

func TestMakeSixteenBits(t *testing.T) {
	t.Parallel()
	c := color.NRGBA64{R: 200 * 257, G: 100*257 + 99, B: 50 * 257, A: 65535}
	img := image.NewNRGBA64(image.Rect(0, 0, 64, 48))
	for y := range 48 {
		for x := range 64 {
			img.SetNRGBA64(x, y, c)
		}
	}
	small := color.NRGBA{R: 200, G: 100, B: 50, A: 255}
	p := mustMake(t, asPNG(t, img), Options{Boxes: box32, Format: photo.PNG})
	requireColour(t, small, at(decoded(t, p), 0.5, 0.5), 1)
	require.Equal(t, byte(8), p.Bytes[24], "bits a channel")

	p = mustMake(t, withProfile(t, asPNG(t, img), displayP3.icc()), Options{Boxes: box32, Format: photo.PNG})
	requireColour(t, displayP3.inSRGB(small), at(decoded(t, p), 0.5, 0.5), 2)

	veil := image.NewNRGBA64(image.Rect(0, 0, 64, 48))
	for y := range 48 {
		for x := range 64 {
			veil.SetNRGBA64(x, y, color.NRGBA64{R: 65535, A: 32768})
		}
	}
	p = mustMake(t, asPNG(t, veil), Options{Boxes: box32})
	requireColour(t, color.NRGBA{R: 255, G: 127, B: 127, A: 255}, at(decoded(t, p), 0.5, 0.5), 3)
}

// TestMakeExtraSamples has a TIFF with samples after colour and alpha, which
// are ignored.
func TestMakeExtraSamples(t *testing.T) {
	t.Parallel()
	img := vipsImage(t, corners(160, 120))
	require.NoError(t, img.BandJoinConst([]float64{77}))
	source := export(t, img, (*vips.ImageRef).ExportTiff, plainTIFF)
	for _, format := range photo.Formats {
		p := mustMake(t, source, Options{Boxes: []photo.Box{{Width: 80, Height: 80}}, Format: format})
		requireCorners(t, decoded(t, p), 10)
	}
}

// TestMakeCMYK makes its pictures with libvips' own CMYK profile, which libvips
// also applies to pictures without one.
func TestMakeCMYK(t *testing.T) {
	t.Parallel()
	// Colours that can be printed.
	colours := [4]color.NRGBA{{R: 180, G: 90, B: 80, A: 255}, {R: 90, G: 140, B: 100, A: 255}, {R: 90, G: 110, B: 150, A: 255}, {R: 220, G: 200, B: 120, A: 255}}
	print := vipsImage(t, quarters(160, 120, colours))
	require.NoError(t, print.Flatten(&vips.Color{R: 255, G: 255, B: 255}))
	require.NoError(t, print.TransformICCProfileWithFallback("cmyk", "srgb"))
	require.Equal(t, vips.InterpretationCMYK, print.Interpretation())
	defer print.Close()
	profile := print.GetICCProfile()
	require.NotEmpty(t, profile)
	require.NoError(t, print.RemoveICCProfile())
	bare, _, err := print.ExportJpeg(&vips.JpegExportParams{Quality: 95})
	require.NoError(t, err)
	tiff, _, err := print.ExportTiff(&plainTIFF)
	require.NoError(t, err)

	for name, source := range map[string][]byte{
		"JPEG with its profile":       withProfile(t, bare, profile),
		"JPEG without a profile":      bare,
		"JPEG with a colour profile":  withProfile(t, bare, displayP3.icc()),
		"JPEG with a damaged profile": withProfile(t, bare, append(displayP3.icc()[:16], "CMYKnonsense nonsense nonsense nonsense nonsense nonsense nonsense nonsense nonsense nonsense nonsense nonsense"...)),
		"TIFF":                        tiff,
	} {
		for _, format := range photo.Formats {
			t.Run(fmt.Sprintf("%s to %s", name, format), func(t *testing.T) {
				t.Parallel()
				img := decoded(t, mustMake(t, source, Options{Boxes: box32, Format: format}))
				requireQuarters(t, colours, img, 12)
			})
		}
	}
}
