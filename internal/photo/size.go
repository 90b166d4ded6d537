package photo

import (
	"fmt"
	"strconv"
	"strings"
)

// MaxDimension is the largest width and height of a thumbnail, in pixels. Their
// columns are smallint.
const MaxDimension = 1<<15 - 1

// Size is a width and a height in pixels, of a picture or a thumbnail.
type Size struct {
	Width, Height int
}

// String returns the size in the form of ParseSize, such as "320x240".
func (s Size) String() string { return fmt.Sprintf("%dx%d", s.Width, s.Height) }

// ParseSize parses a size such as "320x240". Both sides must be from 1 to
// MaxDimension.
func ParseSize(text string) (Size, error) {
	w, h, ok := strings.Cut(strings.ToLower(strings.TrimSpace(text)), "x")
	if !ok {
		return Size{}, fmt.Errorf("size %q is not WIDTHxHEIGHT, such as 320x320", text)
	}
	var sides [2]int
	for i, digits := range []string{w, h} {
		n, err := strconv.ParseUint(digits, 10, 31)
		if err != nil || n < 1 || n > MaxDimension {
			return Size{}, fmt.Errorf("size %q: a side must be a whole number from 1 to %d, not %q", text, MaxDimension, digits)
		}
		sides[i] = int(n)
	}
	return Size{sides[0], sides[1]}, nil
}
