package photo

import (
	"fmt"
	"slices"
	"strings"
)

// Format is the image format of thumbnails.
type Format string

// The formats.
const (
	JPEG Format = "jpeg"
	WebP Format = "webp"
	AVIF Format = "avif"
	PNG  Format = "png"
)

// Formats lists all formats, the default first.
var Formats = []Format{JPEG, WebP, AVIF, PNG}

// ParseFormat parses the name of a format, in upper or lower case.
func ParseFormat(text string) (Format, error) {
	f := Format(strings.ToLower(strings.TrimSpace(text)))
	if !slices.Contains(Formats, f) {
		return "", fmt.Errorf("format %q is none of %v", text, Formats)
	}
	return f, nil
}

// Extension returns the extension of file names, such as ".jpg".
func (f Format) Extension() string {
	if f == JPEG {
		return ".jpg"
	}
	return "." + string(f)
}

// MediaType returns the media type, such as "image/jpeg".
func (f Format) MediaType() string { return "image/" + string(f) }

// Rendering is what is made from a photo's source, before it is stored.
type Rendering struct {
	Thumbnails  []EncodedThumbnail // the largest first; at least one
	Placeholder []byte             // a ThumbHash, of up to MaxPlaceholder bytes
}

// MaxPlaceholder is the length in bytes of the longest ThumbHash, that of a
// picture with transparency. See https://evanw.github.io/thumbhash.
const MaxPlaceholder = 25

// EncodedThumbnail is a thumbnail as the bytes of a file, before it is stored.
type EncodedThumbnail struct {
	Size  Size   // in pixels; not larger than its box or the source
	Bytes []byte // a file in the configured Format
}
