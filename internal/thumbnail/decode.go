package thumbnail

import (
	"errors"

	"github.com/davidbyttow/govips/v2/vips"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// read makes the largest thumbnail as decode does, as strictly as must be, and
// gives the sizes of all.
func read(source []byte, k kind, o Options) (bitmap *vips.ImageRef, sizes []photo.Size, err error) {
	for _, s := range k.strictnesses() {
		forgetReasons()
		var h header
		if h, err = inspect(source, k, o, s); err == nil {
			sizes = plan(h.upright(), o.Boxes)
			bitmap, err = decode(source, h, sizes[0], o.Format, s)
		}
		if failure, ok := errors.AsType[*photo.Failure](err); !ok || failure.Code != photo.CorruptImage {
			break
		}
	}
	return bitmap, sizes, err
}

// decode makes the largest thumbnail, of the given upright size, as a bitmap:
// bare 8-bit pixels in memory, in sRGB or grey, and on white if the format cannot
// keep transparency. The caller closes it.
//
// libvips is lazy. Up to settle nothing but the header has been decoded; then
// all steps run together, over a few rows at a time.
func decode(source []byte, h header, size photo.Size, f photo.Format, s strictness) (*vips.ImageRef, error) {
	img, err := open(source, preshrinkFor(h, size), s)
	if err != nil {
		return nil, unreadable(h.kind, reason(err))
	}
	defer img.Close()

	// Colours are converted after the shrink, because there are fewer of them.
	if err := resize(img, h.turn(size)); err != nil {
		return nil, unreadable(h.kind, reason(err))
	}
	if err := toSRGB(img); err != nil {
		return nil, unreadable(h.kind, reason(err))
	}
	if f == photo.JPEG && img.HasAlpha() {
		if err := img.Flatten(&vips.Color{R: 255, G: 255, B: 255}); err != nil {
			return nil, unreadable(h.kind, reason(err))
		}
	}
	bitmap, err := settle(img)
	if err != nil {
		return nil, unreadable(h.kind, reason(err))
	}
	// Turning needs all pixels at hand, so it comes last.
	return turnUpright(bitmap, h.orientation)
}

// preshrinkFor chooses how much of the shrinking to leave to the decoder. Its
// way is fast and coarse, so the last halving at least is always libvips' own.
// That also leaves every side two pixels or more: on a side of none libvips aborts
// the process.
func preshrinkFor(h header, size photo.Size) preshrink {
	source := h.upright()
	factor := min(float64(source.Width)/float64(size.Width), float64(source.Height)/float64(size.Height)) / 2
	switch {
	case h.kind.loader == vips.ImageTypeWEBP:
		return preshrink{webp: min(1, 1/factor)}
	case h.kind.loader != vips.ImageTypeJPEG:
		return preshrink{} // cannot
	case factor >= 8:
		return preshrink{jpeg: 8}
	case factor >= 4:
		return preshrink{jpeg: 4}
	case factor >= 2:
		return preshrink{jpeg: 2}
	default:
		return preshrink{}
	}
}

// resize shrinks the image to exactly the size. Sides are scaled one by one
// because rounding makes their scales differ a little.
func resize(img *vips.ImageRef, size photo.Size) error {
	if img.Width() == size.Width && img.Height() == size.Height {
		return nil
	}
	horizontal := float64(size.Width) / float64(img.Width())
	vertical := float64(size.Height) / float64(img.Height())
	return img.ResizeWithVScale(horizontal, vertical, vips.KernelLanczos3)
}

// toSRGB converts the image to 8 bits a channel: grey if it is grey and opaque,
// else sRGB, with alpha if it has that.
func toSRGB(img *vips.ImageRef) error {
	if needsProfile(img) {
		// The names are those of a profile within libvips, not of a file. If
		// there is an error, the embedded profile is broken or for some other
		// kind of picture. The picture is not broken, and is shown the way
		// programs without colour management show it.
		_ = img.TransformICCProfileWithFallback("srgb", "srgb")
	}
	space := vips.InterpretationSRGB
	if img.Bands() == 1 {
		space = vips.InterpretationBW
	}
	if err := img.ToColorSpace(space); err != nil {
		return err
	}
	if img.Bands() > 4 { // beyond colour and alpha: a TIFF's extra samples
		if err := img.ExtractBand(0, 4); err != nil {
			return err
		}
	}
	return img.Cast(vips.BandFormatUchar)
}

// needsProfile tells whether the image's colours mean what its embedded profile
// says, and not simply sRGB.
func needsProfile(img *vips.ImageRef) bool {
	profile := img.GetICCProfile()
	if len(profile) < 128 { // the size of its header
		return false
	}
	// The usual sRGB profile, by its maker and model. To set up a conversion
	// to itself takes libvips longer than to encode the thumbnail.
	if string(profile[48:56]) == "IEC sRGB" {
		return false
	}
	// libvips would take a profile that is for fewer channels, or takes alpha
	// for ink.
	switch string(profile[16:20]) {
	case "GRAY":
		return img.Bands() <= 2
	case "CMYK":
		return img.Interpretation() == vips.InterpretationCMYK
	default:
		return true
	}
}

// settle runs all steps that the 8-bit image is waiting for, and gives their
// result as an image of its own, with no metadata.
func settle(img *vips.ImageRef) (*vips.ImageRef, error) {
	pixels, err := img.ToBytes()
	if err != nil {
		return nil, err
	}
	space := vips.InterpretationSRGB
	if img.Bands() == 1 {
		space = vips.InterpretationBW
	}
	return vips.NewImageFromMemory(pixels, img.Width(), img.Height(), img.Bands(), vips.BandFormatUchar, space)
}

// turnUpright turns and mirrors the bitmap as EXIF's orientation asks for. It
// closes the bitmap, unless that is what it returns.
func turnUpright(bitmap *vips.ImageRef, orientation int) (*vips.ImageRef, error) {
	if orientation == 1 {
		return bitmap, nil
	}
	defer bitmap.Close()
	if err := bitmap.SetOrientation(orientation); err != nil {
		return nil, internal("turned upright", err)
	}
	if err := bitmap.AutoRotate(); err != nil {
		return nil, internal("turned upright", err)
	}
	turned, err := settle(bitmap)
	if err != nil {
		return nil, internal("turned upright", err)
	}
	return turned, nil
}

// shrink makes a smaller bitmap. It closes the given one, unless that is what
// it returns because it has the size already.
func shrink(bitmap *vips.ImageRef, size photo.Size) (*vips.ImageRef, error) {
	if sizeOf(bitmap) == size {
		return bitmap, nil
	}
	defer bitmap.Close()
	if err := resize(bitmap, size); err != nil {
		return nil, internal("shrunk", err)
	}
	smaller, err := settle(bitmap)
	if err != nil {
		return nil, internal("shrunk", err)
	}
	return smaller, nil
}

func sizeOf(img *vips.ImageRef) photo.Size {
	return photo.Size{Width: img.Width(), Height: img.Height()}
}
