// Package mediatype detects the media type of a file from its first bytes.
package mediatype

import (
	"encoding/binary"
	"strings"

	"github.com/gabriel-vasile/mimetype"
)

// Media types of the pictures in HEIF, a container that is shared with MP4.
const (
	AVIF         = "image/avif"
	HEIC         = "image/heic"
	HEICSequence = "image/heic-sequence"
	HEIF         = "image/heif" // any codec
	HEIFSequence = "image/heif-sequence"
)

// brands maps the brands of HEIF to media types, as ISO/IEC 23008-12 and the
// AVIF specification register them.
var brands = map[string]string{
	"avif": AVIF, "avis": AVIF, "MA1A": AVIF, "MA1B": AVIF,
	"heic": HEIC, "heix": HEIC, "heim": HEIC, "heis": HEIC,
	"hevc": HEICSequence, "hevx": HEICSequence, "hevm": HEICSequence, "hevs": HEICSequence,
	"mif1": HEIF, "mif2": HEIF, "miaf": HEIF, "1pic": HEIF,
	"msf1": HEIFSequence,
}

// Detect returns the media type of a file that begins with head, without
// parameters: "application/octet-stream" if it is none that is known. 3072
// bytes suffice.
func Detect(head []byte) string {
	if mediaType := DetectHEIF(head); mediaType != "" {
		return mediaType
	}
	mediaType, _, _ := strings.Cut(mimetype.Detect(head).String(), ";")
	return mediaType
}

// DetectHEIF returns the media type of a file in HEIF, or "" for other files.
// The major brand decides, unless it is generic or not of HEIF: then the first
// compatible brand that names a codec does, or else the first of HEIF.
func DetectHEIF(head []byte) string {
	const fixed = 16 // size, "ftyp", major brand, minor version
	if len(head) < fixed || string(head[4:8]) != "ftyp" {
		return ""
	}
	detected := brands[string(head[8:12])]
	box := head[:min(uint64(len(head)), uint64(binary.BigEndian.Uint32(head)))]
	for at := fixed; at+4 <= len(box) && !namesCodec(detected); at += 4 {
		compatible := brands[string(box[at:at+4])]
		if detected == "" || namesCodec(compatible) {
			detected = compatible
		}
	}
	return detected
}

// namesCodec reports whether the media type is of one codec.
func namesCodec(mediaType string) bool {
	return mediaType != "" && mediaType != HEIF && mediaType != HEIFSequence
}
