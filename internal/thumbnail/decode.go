package thumbnail

import (
	"errors"
	"sync"

	"github.com/davidbyttow/govips/v2/vips"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// decodeLargest returns the whole picture as a bitmap of the largest scaled
// size, and the thumbnails to make of it. It tries the load modes of the kind in turn: a source that libvips refuses
// in the strict mode, which is cheaper, is decoded in the tolerant mode, unless
// a part of it is missing.
func decodeLargest(source []byte, k kind, o Options) (bitmap *vips.ImageRef, targets []target, err error) {
	if k.loader == vips.ImageTypeJPEG {
		jpegMutex.Lock()
		defer jpegMutex.Unlock()
	}
	for _, mode := range k.loadModes() {
		clearErrorBuffer()
		var h header
		if h, err = inspect(source, k, o, mode); err == nil {
			targets = newTargets(h.upright(), o.Boxes)
			bitmap, err = decode(source, h, targets[0].scaled, o.Format, mode)
		}
		refusal, ok := errors.AsType[*loadError](err)
		if !ok {
			return bitmap, targets, err
		}
		if refusal.isOfMissingData() {
			break
		}
	}
	return nil, nil, decodeFailure(source, k, err.Error())
}

// jpegMutex is held while a JPEG is decoded. The buffer of libvips' errors
// must then have no warnings of other JPEGs.
var jpegMutex sync.Mutex

// decode returns the picture at the size, which is the one after orientation, as
// a bitmap: 8-bit pixels in memory, in sRGB or grey, on white
// if the format has no transparency. The caller closes it.
//
// libvips evaluates lazily: the steps before materialize only read the header.
// Then all steps run together, over a few rows at a time.
func decode(source []byte, h header, size photo.Size, f photo.Format, mode loadMode) (*vips.ImageRef, error) {
	img, err := open(source, preshrinkFor(h, size), mode)
	if err != nil {
		return nil, &loadError{errorText(err)}
	}
	defer img.Close()

	if h.kind.loader == vips.ImageTypeGIF {
		if err := toCanvas(img, h.size); err != nil {
			return nil, &loadError{errorText(err)}
		}
	}
	// The shrink comes first, so that fewer pixels are converted.
	if err := resize(img, h.turn(size)); err != nil {
		return nil, &loadError{errorText(err)}
	}
	if err := toSRGB(img); err != nil {
		return nil, &loadError{errorText(err)}
	}
	if f == photo.JPEG && img.HasAlpha() {
		if err := img.Flatten(&vips.Color{R: 255, G: 255, B: 255}); err != nil {
			return nil, &loadError{errorText(err)}
		}
	}
	bitmap, err := materialize(img)
	if err != nil {
		return nil, &loadError{errorText(err)}
	}
	if h.kind.loader == vips.ImageTypeJPEG {
		if warning := (&loadError{takeErrorBuffer()}); warning.isOfMissingData() {
			bitmap.Close()
			return nil, warning
		}
	}
	// Turning needs all pixels in memory, so it comes last.
	return turnUpright(bitmap, h.orientation)
}

// preshrinkFor returns how much of the shrink the decoder does. Decoders shrink
// fast and coarsely, so the last halving at least is left to libvips. That also
// keeps every side at two pixels or more: libvips aborts the process on a side
// of 0.
func preshrinkFor(h header, size photo.Size) preshrink {
	source := h.upright()
	factor := min(float64(source.Width)/float64(size.Width), float64(source.Height)/float64(size.Height)) / 2
	switch {
	case h.kind.loader == vips.ImageTypeWEBP:
		return preshrink{webp: min(1, 1/factor)}
	case h.kind.loader != vips.ImageTypeJPEG:
		return preshrink{} // not supported
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

// toCanvas crops the image to the size, or extends it with transparent pixels,
// at the right and the bottom.
func toCanvas(img *vips.ImageRef, size photo.Size) error {
	visible := photo.Size{Width: min(img.Width(), size.Width), Height: min(img.Height(), size.Height)}
	if visible != sizeOf(img) {
		if err := img.ExtractArea(0, 0, visible.Width, visible.Height); err != nil {
			return err
		}
	}
	if visible == size {
		return nil
	}
	if !img.HasAlpha() {
		if err := img.AddAlpha(); err != nil {
			return err
		}
	}
	return img.EmbedBackgroundRGBA(0, 0, size.Width, size.Height, &vips.ColorRGBA{})
}

// resize shrinks the image to exactly the size. Each side has a scale of its
// own, because rounding makes the two differ slightly.
func resize(img *vips.ImageRef, size photo.Size) error {
	if img.Width() == size.Width && img.Height() == size.Height {
		return nil
	}
	horizontal := float64(size.Width) / float64(img.Width())
	vertical := float64(size.Height) / float64(img.Height())
	return img.ResizeWithVScale(horizontal, vertical, vips.KernelLanczos3)
}

// toSRGB converts the image to 8 bits per channel: to grey if it is grey and
// opaque, otherwise to sRGB, with alpha if it has one.
func toSRGB(img *vips.ImageRef) error {
	if needsProfile(img) {
		// "srgb" names a profile inside libvips, not a file. An error means
		// that the embedded profile is damaged or belongs to another kind of
		// picture. Then the picture is shown as by programs without colour
		// management.
		_ = img.TransformICCProfileWithFallback("srgb", "srgb")
	}
	space := vips.InterpretationSRGB
	if img.Bands() == 1 {
		space = vips.InterpretationBW
	}
	if err := img.ToColorSpace(space); err != nil {
		return err
	}
	if img.Bands() > 4 { // extra samples of a TIFF after colour and alpha
		if err := img.ExtractBand(0, 4); err != nil {
			return err
		}
	}
	return img.Cast(vips.BandFormatUchar)
}

// needsProfile reports whether the image has an embedded profile that applies
// to it and is not sRGB.
func needsProfile(img *vips.ImageRef) bool {
	profile := img.GetICCProfile()
	if len(profile) < 128 { // the size of its header
		return false
	}
	// The usual sRGB profile, recognized by its manufacturer and model. Its
	// conversion would take libvips longer than the encoding of the thumbnail.
	if string(profile[48:56]) == "IEC sRGB" {
		return false
	}
	// libvips would also apply a profile for fewer channels, and would use
	// alpha as an ink.
	switch string(profile[16:20]) {
	case "GRAY":
		return img.Bands() <= 2
	case "CMYK":
		return img.Interpretation() == vips.InterpretationCMYK
	default:
		return true
	}
}

// materialize runs the pending steps of an 8-bit image and returns the pixels
// as a new image without metadata.
func materialize(img *vips.ImageRef) (*vips.ImageRef, error) {
	pixels, err := img.ToBytes()
	if err != nil {
		return nil, err
	}
	defer clear(pixels) // libvips has a copy; this one would wait for the garbage collector
	space := vips.InterpretationSRGB
	if img.Bands() == 1 {
		space = vips.InterpretationBW
	}
	return vips.NewImageFromMemory(pixels, img.Width(), img.Height(), img.Bands(), vips.BandFormatUchar, space)
}

// turnUpright rotates and mirrors the bitmap from EXIF's orientation to
// upright. It closes the given bitmap, unless it returns the same one.
func turnUpright(bitmap *vips.ImageRef, orientation int) (*vips.ImageRef, error) {
	if orientation == 1 {
		return bitmap, nil
	}
	defer bitmap.Close()
	if err := bitmap.SetOrientation(orientation); err != nil {
		return nil, internalFailure("turned upright", err)
	}
	if err := bitmap.AutoRotate(); err != nil {
		return nil, internalFailure("turned upright", err)
	}
	turned, err := materialize(bitmap)
	if err != nil {
		return nil, internalFailure("turned upright", err)
	}
	return turned, nil
}

// shrink returns the bitmap at the size, which is not larger. It closes the
// given bitmap, unless it returns the same one.
func shrink(bitmap *vips.ImageRef, size photo.Size) (*vips.ImageRef, error) {
	if sizeOf(bitmap) == size {
		return bitmap, nil
	}
	defer bitmap.Close()
	if err := resize(bitmap, size); err != nil {
		return nil, internalFailure("shrunk", err)
	}
	smaller, err := materialize(bitmap)
	if err != nil {
		return nil, internalFailure("shrunk", err)
	}
	return smaller, nil
}

// crop returns the bitmap cropped to the target's size, as a new bitmap. The
// caller closes both.
func crop(bitmap *vips.ImageRef, t target) (*vips.ImageRef, error) {
	cropped, err := bitmap.Copy()
	if err != nil {
		return nil, internalFailure("cropped", err)
	}
	defer cropped.Close()
	interesting := vips.InterestingAttention
	if t.mode == photo.CoverCentre {
		interesting = vips.InterestingCentre
	}
	if err := cropped.SmartCrop(t.size.Width, t.size.Height, interesting); err != nil {
		return nil, internalFailure("cropped", err)
	}
	pixels, err := materialize(cropped)
	if err != nil {
		return nil, internalFailure("cropped", err)
	}
	return pixels, nil
}

func sizeOf(img *vips.ImageRef) photo.Size {
	return photo.Size{Width: img.Width(), Height: img.Height()}
}
