package thumbnail

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/davidbyttow/govips/v2/vips"
)

// unsupportedFeature names the feature of a source that libvips or its codecs
// do not support, such as "12 bits per sample", or returns "". It is for
// sources that libvips could not decode: which features work depends on how
// libvips was built, so the names are only of those that usually do not.
func unsupportedFeature(source []byte, k kind) string {
	switch k.loader {
	case vips.ImageTypeJPEG:
		return unsupportedJPEG(source)
	case vips.ImageTypePNG:
		return unsupportedPNG(source)
	case vips.ImageTypeTIFF:
		return unsupportedTIFF(source)
	case vips.ImageTypeHEIF, vips.ImageTypeAVIF:
		return unsupportedHEIF(source)
	default: // GIF and WebP have no variants
		return ""
	}
}

func unsupportedJPEG(source []byte) string {
	f, ok := readJPEGFrame(source)
	if !ok {
		return ""
	}
	switch f.marker {
	case 0xc3, 0xcb:
		return "lossless compression"
	case 0xc5, 0xc6, 0xc7, 0xcd, 0xce, 0xcf:
		return "hierarchical compression"
	case 0xf7:
		return "JPEG-LS compression"
	}
	switch {
	case f.precision != 8:
		return fmt.Sprintf("%d bits per sample", f.precision)
	case f.height == 0:
		return "a height after the pixels (DNL)"
	case len(f.components) == 2 || len(f.components) > 4:
		return fmt.Sprintf("%d channels", len(f.components))
	case f.hasFractionalSampling():
		return "fractional subsampling"
	default:
		return ""
	}
}

// unsupportedPNG looks for critical chunks and methods that libpng does not
// know. A checksum distinguishes them from damage.
func unsupportedPNG(source []byte) string {
	const signature, overhead = 8, 12 // overhead: length, name, checksum
	for rest := source[signature:]; len(rest) >= overhead; {
		length := uint64(binary.BigEndian.Uint32(rest))
		if length > uint64(len(rest)-overhead) {
			return ""
		}
		named, checksum := rest[4:8+length], binary.BigEndian.Uint32(rest[8+length:])
		name, body := string(named[:4]), named[4:]
		if crc32.ChecksumIEEE(named) != checksum {
			return ""
		}
		switch {
		case name == "IHDR" && len(body) == 13 && (body[10] != 0 || body[11] != 0):
			return fmt.Sprintf("compression method %d and filter method %d", body[10], body[11])
		case name == "IHDR" && len(body) == 13 && body[12] > 1:
			return fmt.Sprintf("interlace method %d", body[12])
		case name == "IHDR" || name == "PLTE":
		case name == "IDAT" || name == "IEND":
			return ""
		case name[0] >= 'A' && name[0] <= 'Z' && isASCIILetters(name): // critical
			return name + " chunks"
		}
		rest = rest[overhead+length:]
	}
	return ""
}

func isASCIILetters(s string) bool {
	return !slices.ContainsFunc([]byte(s), func(c byte) bool { return c|0x20 < 'a' || c|0x20 > 'z' })
}

// tiffCompressions names the compressions that libtiff lacks, or that are
// optional when it is built. The usual ones are not in the map.
var tiffCompressions = map[uint64]string{
	6:     "old-style JPEG compression",
	9:     "JBIG compression",
	10:    "JBIG compression",
	32766: "NeXT compression",
	32809: "ThunderScan compression",
	32908: "PixarFilm compression",
	32909: "PixarLog compression",
	34661: "JBIG compression",
	34676: "SGILog compression",
	34677: "SGILog24 compression",
	34712: "JPEG 2000 compression",
	34887: "LERC compression",
	34892: "lossy JPEG compression of DNG",
	34925: "LZMA compression",
	50000: "Zstandard compression",
	50001: "WebP compression",
	50002: "JPEG XL compression",
	52546: "JPEG XL compression",
}

// usualTIFFCompressions are those that every libtiff supports.
var usualTIFFCompressions = []uint64{1, 2, 3, 4, 5, 7, 8, 32771, 32773, 32946}

func unsupportedTIFF(source []byte) string {
	d, ok := readTIFFDirectory(source)
	if !ok {
		return ""
	}
	compression := d.first(259, 1)
	if name, ok := tiffCompressions[compression]; ok {
		return name
	}
	if !slices.Contains(usualTIFFCompressions, compression) {
		return fmt.Sprintf("compression %d", compression)
	}

	const palette, yCbCr, cieLab = 3, 6, 8
	bits, photometric, channels := d.first(258, 1), d.first(262, 1), d.first(277, 1)
	for _, other := range d[258] {
		if other != bits {
			return "samples of different sizes"
		}
	}
	switch {
	case !slices.Contains([]uint64{1, 2, 4, 8, 16, 32, 64}, bits),
		bits < 8 && photometric > palette,
		photometric == palette && bits > 16,
		photometric == cieLab && bits != 8 && bits != 16:
		return fmt.Sprintf("%d bits per sample", bits)
	case bits < 8 && channels > 1:
		return fmt.Sprintf("%d bits per sample and %d channels", bits, channels)
	case photometric > cieLab || photometric == 4 || photometric == 7:
		return fmt.Sprintf("photometric interpretation %d", photometric)
	}

	const whole = 1
	if d.first(339, whole) != whole {
		return "samples that are not unsigned whole numbers"
	}
	subsampling := d[530]
	if len(subsampling) < 2 {
		subsampling = []uint64{2, 2} // the default
	}
	const jpeg = 7 // whose decoder converts to RGB
	if photometric == yCbCr && compression != jpeg && (subsampling[0] != 1 || subsampling[1] != 1) {
		return "subsampled YCbCr"
	}
	const separate = 2
	_, tiled := d[322]
	if tiled && d.first(284, 1) == separate {
		return "tiles in separate planes"
	}
	return ""
}

// hasLargeTiles reports whether a TIFF's tiles have more than a million pixels.
// libvips limits the memory of one tile.
func hasLargeTiles(source []byte) bool {
	d, _ := readTIFFDirectory(source)
	width, height := d.first(322, 0), d.first(323, 0)
	return width > 0 && height > 1_000_000/width
}

// tiffDirectory holds the whole numbers of a TIFF's first directory, by tag.
type tiffDirectory map[uint64][]uint64

// first returns the first value of the tag, or the default.
func (d tiffDirectory) first(tag, otherwise uint64) uint64 {
	if values := d[tag]; len(values) > 0 {
		return values[0]
	}
	return otherwise
}

// readTIFFDirectory reads the first directory of a TIFF or BigTIFF. It returns
// false if that is incomplete.
func readTIFFDirectory(source []byte) (tiffDirectory, bool) {
	if len(source) < 16 {
		return nil, false
	}
	var order binary.ByteOrder = binary.LittleEndian
	if source[0] == 'M' {
		order = binary.BigEndian
	}
	// number reads size bytes at the offset.
	number := func(offset uint64, size int) (uint64, bool) {
		if offset > uint64(len(source)) || uint64(len(source))-offset < uint64(size) {
			return 0, false
		}
		switch at := source[offset:]; size {
		case 1:
			return uint64(at[0]), true
		case 2:
			return uint64(order.Uint16(at)), true
		case 4:
			return uint64(order.Uint32(at)), true
		default:
			return order.Uint64(at), true
		}
	}
	// Sizes in bytes: of the number of entries, and of offsets and counts.
	countSize, wordSize, offsetAt := 2, 4, uint64(4)
	if order.Uint16(source[2:]) == 43 { // BigTIFF
		countSize, wordSize, offsetAt = 8, 8, 8
	}
	at, _ := number(offsetAt, wordSize)
	entries, ok := number(at, countSize)
	if !ok || entries > 4096 {
		return nil, false
	}
	at += uint64(countSize)
	sizes := map[uint64]int{1: 1, 3: 2, 4: 4, 16: 8} // of BYTE, SHORT, LONG and LONG8
	const maxValues = 16                             // the first suffice
	d := tiffDirectory{}
	for range entries {
		tag, ok1 := number(at, 2)
		kind, ok2 := number(at+2, 2)
		count, ok3 := number(at+4, wordSize)
		value := at + 4 + uint64(wordSize)
		_, ok4 := number(value, wordSize)
		if !ok1 || !ok2 || !ok3 || !ok4 {
			return nil, false
		}
		at = value + uint64(wordSize)
		size, isWhole := sizes[kind]
		if !isWhole {
			continue
		}
		count = min(count, maxValues)
		if count*uint64(size) > uint64(wordSize) {
			value, _ = number(value, wordSize)
		}
		for i := range count {
			v, ok := number(value+i*uint64(size), size)
			if !ok {
				return nil, false
			}
			d[tag] = append(d[tag], v)
		}
	}
	return d, true
}

// heifCodecs names the types of items that libheif may lack the decoder of.
var heifCodecs = map[string]string{
	"avc1": "AVC compression",
	"jpeg": "JPEG compression",
	"j2k1": "JPEG 2000 compression",
	"lhv1": "layered HEVC compression",
	"mski": "masks",
	"unci": "no compression",
	"vvc1": "VVC compression",
	"evc1": "EVC compression",
	"jxlc": "JPEG XL compression",
}

func unsupportedHEIF(source []byte) string {
	boxes := readBoxes(source)
	const withBrands = 12 // major brand, minor version, one compatible brand
	if ftyp := boxes["ftyp"]; len(ftyp) >= 8 && len(ftyp) < withBrands {
		return "no compatible brand"
	}
	meta, ok := boxes["meta"]
	if !ok || len(meta) < 4 {
		if _, ok := boxes["moov"]; ok {
			return "a sequence of pictures, but no still picture"
		}
		return ""
	}
	boxes = readBoxes(meta[4:]) // after the version
	for _, itemType := range readItemTypes(boxes["iinf"]) {
		if name, ok := heifCodecs[itemType]; ok {
			return name
		}
	}
	properties := readBoxes(boxes["iprp"])["ipco"]
	hvcC := readBoxes(properties)["hvcC"]
	if len(hvcC) < 19 {
		return ""
	}
	const rangeExtensions = 4 // the last profile that libde265 decodes
	profile := hvcC[1] & 0x1f
	bits := 8 + max(hvcC[17]&7, hvcC[18]&7)
	switch {
	case bits > 12:
		return fmt.Sprintf("HEVC and %d bits per sample", bits)
	case profile > rangeExtensions:
		return fmt.Sprintf("profile %d of HEVC", profile)
	default:
		return ""
	}
}

// readBoxes returns the contents of the boxes of an ISO base media file by
// type: of each type the first. It ignores what follows an invalid box.
func readBoxes(b []byte) map[string][]byte {
	boxes := map[string][]byte{}
	for len(b) >= 8 {
		size, header := uint64(binary.BigEndian.Uint32(b)), uint64(8)
		switch {
		case size == 0: // up to the end
			size = uint64(len(b))
		case size == 1 && len(b) >= 16:
			size, header = binary.BigEndian.Uint64(b[8:]), 16
		}
		if size < header || size > uint64(len(b)) {
			break
		}
		if name := string(b[4:8]); boxes[name] == nil {
			boxes[name] = b[header:size]
		}
		b = b[size:]
	}
	return boxes
}

// readItemTypes returns the types of the items in an iinf box.
func readItemTypes(iinf []byte) (types []string) {
	for at := 0; ; {
		next := bytes.Index(iinf[at:], []byte("infe"))
		if next < 0 || len(iinf) < at+next+16 {
			return types
		}
		entry := iinf[at+next+4:]
		at += next + 4
		switch entry[0] { // version; the type follows the ID and an index
		case 2:
			types = append(types, string(entry[8:12]))
		case 3:
			if len(entry) >= 14 {
				types = append(types, string(entry[10:14]))
			}
		}
	}
}
