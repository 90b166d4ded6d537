package photo

import (
	"fmt"
	"strings"
)

// Mode selects how a picture fills a [Box].
type Mode int

const (
	// Fit keeps the whole picture and its aspect ratio: the thumbnail lies
	// within the box.
	Fit Mode = iota

	// Cover crops the picture to the box's aspect ratio, around the part that
	// attracts most attention by libvips' estimate.
	Cover

	// CoverCentre crops the picture to the box's aspect ratio, around its
	// middle.
	CoverCentre
)

var modeNames = [...]string{Fit: "fit", Cover: "cover", CoverCentre: "cover-centre"}

// String returns the name of the mode, such as "cover-centre".
func (m Mode) String() string {
	if m < 0 || int(m) >= len(modeNames) {
		return fmt.Sprintf("Mode(%d)", int(m))
	}
	return modeNames[m]
}

// IsValid reports whether the mode is one of the constants.
func (m Mode) IsValid() bool { return m >= 0 && int(m) < len(modeNames) }

// Box describes the thumbnails of pictures of any size. The width and the
// height are in pixels, from 1 to MaxDimension.
type Box struct {
	Width, Height int
	Mode          Mode // defaults to Fit
}

// Size returns the width and the height.
func (b Box) Size() Size { return Size{b.Width, b.Height} }

// String returns the box in the form of ParseBox: "320x240" for Fit, and with
// the other modes such as "320x240:cover".
func (b Box) String() string {
	if b.Mode == Fit {
		return b.Size().String()
	}
	return b.Size().String() + ":" + b.Mode.String()
}

// MarshalText returns the box in the form of ParseBox.
func (b Box) MarshalText() ([]byte, error) {
	if !b.Mode.IsValid() {
		return nil, fmt.Errorf("box %s: unknown mode", b)
	}
	return []byte(b.String()), nil
}

// UnmarshalText parses a box as ParseBox does.
func (b *Box) UnmarshalText(text []byte) (err error) {
	*b, err = ParseBox(string(text))
	return err
}

// ParseBox parses a box such as "320x240" or "320x240:cover": a size in the
// form of ParseSize, and optionally a mode, which is fit, cover or cover-centre.
// The case of letters does not matter.
func ParseBox(text string) (Box, error) {
	dimensions, name, hasMode := strings.Cut(text, ":")
	size, err := ParseSize(dimensions)
	if err != nil {
		return Box{}, err
	}
	box := Box{Width: size.Width, Height: size.Height}
	if !hasMode {
		return box, nil
	}
	name = strings.ToLower(strings.TrimSpace(name))
	for mode, known := range modeNames {
		if name == known {
			box.Mode = Mode(mode)
			return box, nil
		}
	}
	return Box{}, fmt.Errorf("box %q: the mode must be one of %s, not %q", text, strings.Join(modeNames[:], ", "), name)
}

// ThumbnailSize returns the size of the thumbnail of a picture. The picture is
// never enlarged. With Cover and CoverCentre that is the box's size, or of a
// picture that is narrower or lower than the box, the largest size of the box's
// aspect ratio within the picture.
func (b Box) ThumbnailSize(picture Size) Size {
	if b.Mode == Fit {
		return picture.fitInto(b.Size())
	}
	return b.Size().fitInto(picture)
}

// ScaledSize returns the size to which the picture is shrunk for its thumbnail,
// before it is cropped to ThumbnailSize. It has the picture's aspect ratio.
func (b Box) ScaledSize(picture Size) Size {
	switch {
	case b.Mode == Fit:
		return picture.fitInto(b.Size())
	case picture.Width < b.Width || picture.Height < b.Height:
		return picture
	case picture.Width*b.Height <= picture.Height*b.Width:
		return Size{b.Width, scaleSide(picture.Height, b.Width, picture.Width)}
	default:
		return Size{scaleSide(picture.Width, b.Height, picture.Height), b.Height}
	}
}

// Admits reports whether a picture exists whose thumbnail has the size.
func (b Box) Admits(thumbnail Size) bool {
	if thumbnail.Width < 1 || thumbnail.Height < 1 || thumbnail.Width > b.Width || thumbnail.Height > b.Height {
		return false
	}
	return b.Mode == Fit ||
		thumbnail.Height == scaleSide(b.Height, thumbnail.Width, b.Width) ||
		thumbnail.Width == scaleSide(b.Width, thumbnail.Height, b.Height)
}

// fitInto returns the largest size of the same aspect ratio that lies within
// the limit and is not larger than s. Integers suffice: sides are far below
// 2^31, so the products are below an int's limit.
func (s Size) fitInto(limit Size) Size {
	if s.Width <= limit.Width && s.Height <= limit.Height {
		return s
	}
	if s.Width*limit.Height >= s.Height*limit.Width {
		return Size{limit.Width, scaleSide(s.Height, limit.Width, s.Width)}
	}
	return Size{scaleSide(s.Width, limit.Height, s.Height), limit.Height}
}

// scaleSide returns side*numerator/denominator, rounded to the nearest integer,
// and at least 1.
func scaleSide(side, numerator, denominator int) int {
	return max(1, (2*side*numerator+denominator)/(2*denominator))
}
