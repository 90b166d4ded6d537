package photo

import (
	"fmt"
	"slices"
	"strings"
)

// Format is what thumbnails are encoded as.
type Format string

// The formats that thumbnails can have.
const (
	JPEG Format = "jpeg"
	WebP Format = "webp"
	AVIF Format = "avif"
	PNG  Format = "png"
)

// Formats lists them, the default first.
var Formats = []Format{JPEG, WebP, AVIF, PNG}

// ParseFormat reads the name of a format, in upper or lower case.
func ParseFormat(text string) (Format, error) {
	f := Format(strings.ToLower(strings.TrimSpace(text)))
	if !slices.Contains(Formats, f) {
		return "", fmt.Errorf("format %q is none of %v", text, Formats)
	}
	return f, nil
}

// Extension is how the names of files in the format end, such as ".jpg".
func (f Format) Extension() string {
	if f == JPEG {
		return ".jpg"
	}
	return "." + string(f)
}

// MediaType is the format's, such as "image/jpeg".
func (f Format) MediaType() string { return "image/" + string(f) }
