// Package thumbnail makes thumbnails from the bytes of a picture. It is the
// only package that uses libvips, and it uses no network, files or clock.
//
// One call to [Make] runs these steps:
//
//	source ──▶ identify ──▶ inspect ──▶ newTargets ──▶ decode ──┬─▶ crop ──▶ encode ──▶ thumbnail
//	           signature    header,                    pixels,  │
//	                        limits                     sRGB,    └─▶ shrink ──▶ crop ──▶ encode ──▶ …
//	                                                   upright                └─▶ placeholder
//
// The step crop is for boxes of the modes Cover and CoverCentre.
//
// The source is untrusted input. Its signature must be one of an allowed format
// before libvips reads it. Its header must be within the limits before memory
// for pixels is allocated. Its metadata cannot reach a thumbnail, which is
// encoded from bare pixels. A defect in libvips or one of its codecs remains
// possible, so callers should run Make in a process that may crash; see
// internal/renderer.
package thumbnail

import (
	"slices"

	"github.com/davidbyttow/govips/v2/vips"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// Defaults of [Options].
const (
	// DefaultQuality is the lowest quality at which a thumbnail has no visible
	// artefacts at its own size. The scales of JPEG, WebP and AVIF are similar
	// enough for one number.
	DefaultQuality = 80

	// DefaultMaxPixels, 250 million, admits the pictures of phones with 200
	// megapixels. It bounds the CPU time of one picture to a few seconds.
	// Memory has a limit of its own, MaxMemory.
	DefaultMaxPixels = 250_000_000

	// DefaultMaxFrames admits usual animations. Only the first frame is
	// decoded, but libvips reads the headers of all.
	DefaultMaxFrames = 1_000
)

// Options choose the thumbnails to make and the limits on sources.
type Options struct {
	// Boxes describe the thumbnails, one for each. Sides are in pixels, from 1
	// to [photo.MaxDimension]. Of the boxes that lead to the same size of a
	// picture's thumbnail, the first is used and the others are ignored.
	// Required.
	Boxes []photo.Box

	// Format of the thumbnails. Defaults to JPEG.
	Format photo.Format

	// Quality of the thumbnails, from 1 (smallest) to 100 (best). PNG is
	// lossless and ignores it. Defaults to DefaultQuality.
	Quality int

	// MaxPixels limits the width times the height in a source's header.
	// Defaults to DefaultMaxPixels; there is no value for no limit.
	//
	// The pictures inside a HEIC or AVIF may be larger than its header claims,
	// which shows only when they are decoded. A limit on the memory of the
	// process must guard against that.
	MaxPixels int64

	// MaxMemory limits the memory that decoding a source takes, in bytes, as
	// estimated from its header. Few kinds are decoded as a whole and take more
	// than a few rows. The estimates are low, so that no source is refused that
	// could be decoded; a limit on the memory of the process must guard against
	// the rest. 0, the default, is no limit.
	MaxMemory int64

	// MaxFrames limits the frames or pages of a source. Defaults to
	// DefaultMaxFrames.
	MaxFrames int
}

// Make makes a thumbnail for each box in o.Boxes, the largest first, and a
// placeholder, which shows the whole picture. A thumbnail shows the first frame
// of the source, upright and in sRGB. It keeps the aspect ratio of the source,
// or is cropped to that of the box if the box's mode says so: sides are rounded
// to whole pixels, and are at least one. A source is never enlarged. Boxes that
// lead to the same size have one thumbnail, made for the first of them.
//
// Errors are a [*photo.Failure] with one of the codes
//
//	unsupported_image  not a JPEG, PNG, WebP, GIF, TIFF, HEIC or AVIF, or an unsupported variant of one
//	corrupt_image      one of these formats, but damaged or truncated
//	image_too_large    more pixels, frames or memory than the options allow, or out of memory
//	internal           invalid options, libvips cannot start, or an operation on the decoded picture fails
//
// Make may be called concurrently.
func Make(source []byte, o Options) (made photo.Rendering, err error) {
	if o, err = o.complete(); err != nil {
		return made, err
	}
	if err := Startup(); err != nil {
		return made, photo.Fail(photo.Internal, "%v", err)
	}

	k, err := identify(source)
	if err != nil {
		return made, err
	}
	loadable := k.withLoaderBrand(source)
	bitmap, targets, err := decodeLargest(loadable, k, o)
	if &loadable[0] != &source[0] {
		clear(loadable) // a copy that would wait for the garbage collector
	}
	if err != nil {
		return made, err
	}
	defer func() { bitmap.Close() }()

	for _, t := range targets {
		// The picture is shrunk from the previous bitmap, which is at least
		// as large. That is cheaper than from the source and loses no quality,
		// because bitmaps are not compressed.
		smaller, err := shrink(bitmap, t.scaled)
		if err != nil {
			return photo.Rendering{}, err
		}
		bitmap = smaller
		thumbnail, err := cropAndEncode(bitmap, t, o)
		if err != nil {
			return photo.Rendering{}, err
		}
		made.Thumbnails = append(made.Thumbnails, thumbnail)
	}
	slices.SortFunc(made.Thumbnails, func(a, b photo.EncodedThumbnail) int { return compareSizes(b.Size, a.Size) })

	if made.Placeholder, err = placeholder(bitmap); err != nil {
		return photo.Rendering{}, err
	}
	return made, nil
}

// cropAndEncode makes the thumbnail of the whole picture at its scaled size.
func cropAndEncode(picture *vips.ImageRef, t target, o Options) (photo.EncodedThumbnail, error) {
	if t.size == t.scaled {
		return encode(picture, o.Format, o.Quality)
	}
	cropped, err := crop(picture, t)
	if err != nil {
		return photo.EncodedThumbnail{}, err
	}
	defer cropped.Close()
	return encode(cropped, o.Format, o.Quality)
}

// complete sets the defaults and validates the options.
func (o Options) complete() (Options, error) {
	if o.Format == "" {
		o.Format = photo.JPEG
	}
	if o.Quality == 0 {
		o.Quality = DefaultQuality
	}
	if o.MaxPixels == 0 {
		o.MaxPixels = DefaultMaxPixels
	}
	if o.MaxFrames == 0 {
		o.MaxFrames = DefaultMaxFrames
	}

	if len(o.Boxes) == 0 {
		return o, photo.Fail(photo.Internal, "no thumbnail size is configured")
	}
	for _, box := range o.Boxes {
		if min(box.Width, box.Height) < 1 || max(box.Width, box.Height) > photo.MaxDimension {
			return o, photo.Fail(photo.Internal, "thumbnail size %s: a side must be from 1 to %d", box, photo.MaxDimension)
		}
		if !box.Mode.IsValid() {
			return o, photo.Fail(photo.Internal, "thumbnail size %s: unknown mode", box)
		}
	}
	if !slices.Contains(photo.Formats, o.Format) {
		return o, photo.Fail(photo.Internal, "thumbnail format %q is none of %v", o.Format, photo.Formats)
	}
	if o.Quality < 1 || o.Quality > 100 {
		return o, photo.Fail(photo.Internal, "thumbnail quality must be from 1 to 100, not %d", o.Quality)
	}
	if o.MaxPixels < 0 || o.MaxFrames < 0 || o.MaxMemory < 0 {
		return o, photo.Fail(photo.Internal, "the limits on pixels, frames and memory must be positive, not %d, %d and %d", o.MaxPixels, o.MaxFrames, o.MaxMemory)
	}
	return o, nil
}
