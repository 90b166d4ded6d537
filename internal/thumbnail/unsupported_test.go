package thumbnail

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// tiffTags are the whole numbers of a TIFF's directory.
type tiffTags map[uint16][]uint32

// drawTIFF returns an uncompressed grey TIFF of 16x16 pixels in one strip at
// byte 400. The given tags replace its own.
func drawTIFF(order binary.AppendByteOrder, tags tiffTags) []byte {
	const pixelsAt, pixels = 400, 8192
	all := tiffTags{256: {16}, 257: {16}, 258: {8}, 259: {1}, 262: {1}, 273: {pixelsAt}, 277: {1}, 278: {16}, 279: {pixels}}
	for tag, values := range tags {
		all[tag] = values
	}
	signature := "II\x2a\x00"
	if order == binary.AppendByteOrder(binary.BigEndian) {
		signature = "MM\x00\x2a"
	}
	source := order.AppendUint32([]byte(signature), 8)
	source = order.AppendUint16(source, uint16(len(all)))
	end := uint32(8 + 2 + 12*len(all) + 4)
	var after []byte
	for tag := range uint16(1000) {
		values, ok := all[tag]
		if !ok {
			continue
		}
		const long = 4
		source = order.AppendUint16(order.AppendUint16(source, tag), long)
		source = order.AppendUint32(source, uint32(len(values)))
		if len(values) == 1 {
			source = order.AppendUint32(source, values[0])
			continue
		}
		source = order.AppendUint32(source, end+uint32(len(after)))
		for _, v := range values {
			after = order.AppendUint32(after, v)
		}
	}
	source = append(order.AppendUint32(source, 0), after...)
	source = append(source, make([]byte, pixelsAt-len(source))...)
	return append(source, bytes.Repeat([]byte{0x40}, pixels)...)
}

func TestMakeRefusesUnsupportedTIFF(t *testing.T) {
	t.Parallel()
	for words, tags := range map[string]tiffTags{
		"12 bits per sample":                  {258: {12}},
		"24 bits per sample":                  {258: {24}},
		"4 bits per sample and 3 channels":    {258: {4, 4, 4}, 262: {2}, 277: {3}},
		"samples of different sizes":          {258: {5, 6, 5}, 262: {2}, 277: {3}},
		"old-style JPEG compression":          {259: {6}, 258: {8, 8, 8}, 262: {6}, 277: {3}, 513: {300}, 514: {100}},
		"JPEG 2000 compression":               {259: {34712}},
		"compression 60000":                   {259: {60000}},
		"ThunderScan compression":             {259: {32809}},
		"subsampled YCbCr":                    {258: {8, 8, 8}, 262: {6}, 277: {3}, 530: {2, 2}},
		"tiles in separate planes":            {258: {8, 8, 8}, 262: {2}, 277: {3}, 284: {2}, 322: {16}, 323: {16}, 324: {400, 656, 912}, 325: {256, 256, 256}},
		"samples that are not unsigned whole": {258: {16}, 339: {3}},
	} {
		for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
			t.Run(fmt.Sprint(words, order), func(t *testing.T) {
				t.Parallel()
				_, err := Make(drawTIFF(order, tags), Options{Boxes: box320})
				requireFailure(t, err, photo.UnsupportedImage, "TIFF with "+words, "not supported")
			})
		}
	}
}

func TestMakeRefusesLargeTiles(t *testing.T) {
	t.Parallel()
	tiles := func(width, height uint32) []byte {
		return drawTIFF(binary.LittleEndian, tiffTags{322: {width}, 323: {height}, 324: {400}, 325: {8192}})
	}
	mustMake(t, tiles(16, 16), Options{Boxes: box320})
	_, err := Make(tiles(16000, 16000), Options{Boxes: box320})
	requireFailure(t, err, photo.ImageTooLarge, "tiles")
}

func TestMakeReadsTIFFVariants(t *testing.T) {
	t.Parallel()
	for name, tags := range map[string]tiffTags{
		"8 bits":          {},
		"16 bits":         {258: {16}},
		"1 bit":           {258: {1}},
		"2 bits":          {258: {2}},
		"4 bits":          {258: {4}},
		"RGB":             {258: {8, 8, 8}, 262: {2}, 277: {3}},
		"separate planes": {258: {8, 8, 8}, 262: {2}, 277: {3}, 284: {2}, 273: {400, 656, 912}, 279: {256, 256, 256}},
		"YCbCr":           {258: {8, 8, 8}, 262: {6}, 277: {3}, 530: {1, 1}},
		"CMYK":            {258: {8, 8, 8, 8}, 262: {5}, 277: {4}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := mustMake(t, drawTIFF(binary.LittleEndian, tags), Options{Boxes: box320})
			require.Equal(t, photo.Size{Width: 16, Height: 16}, p.Size)
		})
	}
}

func TestMakeRefusesUnsupportedJPEG(t *testing.T) {
	t.Parallel()
	source := asJPEG(t, corners(64, 48), 90)
	frame := bytes.Index(source, []byte{0xff, 0xc0})
	const marker, precision, height, samplingY, samplingCb = 1, 4, 5, 11, 14
	for words, edits := range map[string]map[int]byte{
		"lossless compression":             {marker: 0xc3},
		"hierarchical compression":         {marker: 0xc5},
		"JPEG-LS compression":              {marker: 0xf7},
		"12 bits per sample":               {marker: 0xc1, precision: 12},
		"a height after the pixels (DNL)":  {height: 0, height + 1: 0},
		"fractional subsampling":           {samplingY: 0x31, samplingCb: 0x21},
		"lossless compression is not supp": {marker: 0xcb},
	} {
		t.Run(words, func(t *testing.T) {
			t.Parallel()
			edited := bytes.Clone(source)
			for at, b := range edits {
				edited[frame+at] = b
			}
			_, err := Make(edited, Options{Boxes: box320})
			requireFailure(t, err, photo.UnsupportedImage, "JPEG with "+words)
		})
	}
}

func TestMakeRefusesUnsupportedPNG(t *testing.T) {
	t.Parallel()
	source := asPNG(t, corners(64, 48))
	const signature, ihdr = 8, 8 + 12 + 13
	insert := func(at int, name string) []byte {
		return bytes.Join([][]byte{source[:at], chunk(name, []byte{0x50, 0, 0x20, 2}), source[at:]}, nil)
	}
	method := func(at int) []byte {
		header := bytes.Clone(source[signature+8 : ihdr-4])
		header[at] = 64
		return bytes.Join([][]byte{source[:signature], chunk("IHDR", header), source[ihdr:]}, nil)
	}
	for words, edited := range map[string][]byte{
		"CgBI chunks":          insert(signature, "CgBI"), // of iOS programs
		"ABCD chunks":          insert(ihdr, "ABCD"),
		"filter method 64":     method(11), // of MNG
		"interlace method 64":  method(12),
		"compression method 6": method(10),
	} {
		t.Run(words, func(t *testing.T) {
			t.Parallel()
			_, err := Make(edited, Options{Boxes: box320})
			requireFailure(t, err, photo.UnsupportedImage, "PNG with ", words)
		})
	}
	damaged := insert(ihdr, "ABCD")
	damaged[ihdr+8]++
	_, err := Make(damaged, Options{Boxes: box320})
	requireFailure(t, err, photo.CorruptImage)
}

func TestMakeRefusesUnsupportedHEIF(t *testing.T) {
	t.Parallel()
	heic, avif := asHEIC(t, corners(64, 64)), asAVIF(t, corners(64, 64))
	for itemType, words := range heifCodecs {
		for name, source := range map[string][]byte{"HEIC": bytes.ReplaceAll(heic, []byte("hvc1"), []byte(itemType)), "AVIF": bytes.ReplaceAll(avif, []byte("av01"), []byte(itemType))} {
			t.Run(name+" "+itemType, func(t *testing.T) {
				t.Parallel()
				_, err := Make(source, Options{Boxes: box320})
				requireFailure(t, err, photo.UnsupportedImage, name+" with "+words)
			})
		}
	}
	sequence := bytes.Replace(heic, []byte("meta"), []byte("moov"), 1)
	_, err := Make(sequence, Options{Boxes: box320})
	requireFailure(t, err, photo.UnsupportedImage, "no still picture")
}

// TestUnsupportedHEVC has headers of HEVC whose pictures the encoder here
// cannot draw.
func TestUnsupportedHEVC(t *testing.T) {
	t.Parallel()
	source := asHEIC(t, corners(64, 64))
	require.Empty(t, unsupportedHEIF(source))
	configuration := bytes.Index(source, []byte("hvcC")) + 4
	for words, edits := range map[string]map[int]byte{
		"15 bits per sample": {17: 7},
		"14 bits per sample": {18: 6},
		"profile 9 of HEVC":  {1: 9},
	} {
		edited := bytes.Clone(source)
		for at, b := range edits {
			edited[configuration+at] = b
		}
		require.Contains(t, unsupportedHEIF(edited), words)
	}
}

func FuzzUnsupportedFeature(f *testing.F) {
	f.Add(drawTIFF(binary.BigEndian, nil))
	f.Add(asJPEG(f, corners(16, 16), 80))
	f.Add(asPNG(f, corners(16, 16)))
	f.Add(asHEIC(f, corners(64, 64)))
	f.Fuzz(func(_ *testing.T, source []byte) {
		if len(source) < 12 { // the longest signature
			return
		}
		for _, k := range kinds {
			unsupportedFeature(source, k) // must not panic
		}
	})
}
