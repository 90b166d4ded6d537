package thumbnail

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// withBrands replaces the major brand of a picture in HEIF, and its compatible
// brands, of which libvips writes three.
func withBrands(source []byte, major string, compatible ...string) []byte {
	source = bytes.Clone(source)
	copy(source[8:], major)
	for i, brand := range compatible {
		copy(source[16+4*i:], brand)
	}
	return source
}

func TestMakeReadsEveryBrand(t *testing.T) {
	t.Parallel()
	heic, avif := asHEIC(t, corners(64, 48)), asAVIF(t, corners(64, 48))
	for name, source := range map[string][]byte{
		"avis":                       withBrands(avif, "avis"),
		"MA1A":                       withBrands(avif, "MA1A"),
		"MA1B":                       withBrands(avif, "MA1B"),
		"AVIF, mif1":                 withBrands(avif, "mif1"),
		"AVIF, miaf":                 withBrands(avif, "miaf"),
		"AVIF, isom":                 withBrands(avif, "isom"),
		"AVIF, mif1 of any codec":    withBrands(avif, "mif1", "mif1", "miaf", "mif1"),
		"heix":                       withBrands(heic, "heix"),
		"heim":                       withBrands(heic, "heim"),
		"heis":                       withBrands(heic, "heis"),
		"hevc":                       withBrands(heic, "hevc"),
		"hevx":                       withBrands(heic, "hevx"),
		"hevm":                       withBrands(heic, "hevm"),
		"hevs":                       withBrands(heic, "hevs"),
		"HEIC, mif1":                 withBrands(heic, "mif1"),
		"HEIC, mif1 of any codec":    withBrands(heic, "mif1", "mif1", "miaf", "mif1"),
		"HEIC, mif2":                 withBrands(heic, "mif2"),
		"HEIC, miaf":                 withBrands(heic, "miaf"),
		"HEIC, msf1":                 withBrands(heic, "msf1"),
		"HEIC, 1pic":                 withBrands(heic, "1pic"),
		"HEIC, only its major brand": withBrands(heic, "heic", "isom", "isom", "isom"),
		"HEIC, mif1 in the middle":   withBrands(heic, "heim", "isom", "mif1", "isom"),
		"heim, only its major brand": withBrands(heic, "heim", "isom", "isom", "isom"),
		"hevc, only its major brand": withBrands(heic, "hevc", "isom", "isom", "isom"),
		"MA1B, only its major brand": withBrands(avif, "MA1B", "isom", "isom", "isom"),
		"miaf, only its major brand": withBrands(heic, "miaf", "isom", "isom", "isom"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := bytes.Clone(source)
			p := mustMake(t, source, Options{Boxes: box320})
			requireCorners(t, decoded(t, p), 16)
			require.Equal(t, before, source)
		})
	}
	_, err := Make(withBrands(heic, "isom", "iso2", "avc1", "mp41"), Options{Boxes: box320})
	requireFailure(t, err, photo.UnsupportedImage, "video/mp4")
}
