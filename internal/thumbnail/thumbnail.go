// Package thumbnail makes thumbnails: the bytes of a picture and some options
// in, encoded thumbnails or a [photo.Failure] out. It is the only package that
// knows libvips, and it touches nothing else: no network, no file, no clock.
//
// What one call to [Make] does:
//
//	source ──identify──▶ inspect ──▶ plan ──▶ decode ──┬─▶ encode ──▶ picture
//	       (signature)   (header,   (sizes)  (pixels,  │
//	                      limits)             sRGB,    └─▶ shrink ─▶ encode ──▶ …
//	                                          upright)
//
// The bytes are hostile until proven otherwise. They are matched against the
// signatures of the allowed formats before libvips sees any of them; the
// header's claims are held against the limits before memory is reserved for a
// pixel; and metadata never reaches the result, because a thumbnail is encoded
// from bare pixels that never had any. What is left is the risk of a defect in
// libvips or one of its decoders, which is why callers should run Make in a
// process of its own that may crash.
package thumbnail

import (
	"slices"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// Defaults of [Options].
const (
	// DefaultQuality is where a thumbnail's artefacts stop being visible at
	// its own size; the quality scales of JPEG, WebP and AVIF are alike enough
	// for one number.
	DefaultQuality = 80

	// DefaultMaxPixels admits every camera and phone of today, and bounds
	// what a picture that must be decoded whole (a progressive JPEG, an
	// interlaced PNG, a HEIC) can cost to some 400 MB.
	DefaultMaxPixels = 100_000_000

	// DefaultMaxFrames admits any animation that somebody drew. Only the
	// first frame is decoded, but libvips walks all of them in the header.
	DefaultMaxFrames = 1_000
)

// Options says which thumbnails to make, and of which sources to refuse to.
type Options struct {
	// Boxes are the sizes to fit into, in any order; sides from 1 to
	// [photo.MaxDimension]. Required.
	Boxes []photo.Size

	// Format of the thumbnails. Defaults to JPEG.
	Format photo.Format

	// Quality of the thumbnails, from 1 (smallest) to 100 (best). PNG is
	// lossless and ignores it. Defaults to DefaultQuality.
	Quality int

	// MaxPixels is the largest source, as the width times the height that its
	// header claims. Defaults to DefaultMaxPixels: a limit that was forgotten
	// is not absent.
	//
	// In a HEIC or AVIF the compressed pictures may be larger than the header
	// says, which no one notices before they are decoded. Only a limit on the
	// memory of the process guards against that.
	MaxPixels int64

	// MaxFrames is the largest number of frames or pages a source may have.
	// Defaults to DefaultMaxFrames.
	MaxFrames int
}

// Picture is one encoded thumbnail.
type Picture struct {
	Size  photo.Size // in pixels, as encoded; never larger than the box or the source
	Bytes []byte
}

// Make makes one thumbnail for each box in o.Boxes, largest first. A thumbnail
// has the source's aspect ratio (to the nearest pixel, and never less than one),
// shows it upright, and is in sRGB. Of an animation or a document it shows the
// first frame. The source is never enlarged; where that, or the shape of the
// boxes, makes two thumbnails the same size, they are one.
//
// Errors are a [*photo.Failure] with one of the codes
//
//	unsupported_image  not a JPEG, PNG, WebP, GIF, TIFF, HEIC or AVIF, or of a kind of those that is not decoded
//	corrupt_image      one of those, but damaged or cut short
//	image_too_large    more pixels or frames than the options allow
//	internal           the options are wrong, libvips cannot start, or memory ran out
//
// Make may be called from several goroutines.
func Make(source []byte, o Options) ([]Picture, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	if err := Startup(); err != nil {
		return nil, photo.Fail(photo.Internal, "%v", err)
	}

	k, err := identify(source)
	if err != nil {
		return nil, err
	}
	bitmap, sizes, err := read(source, k, o)
	if err != nil {
		return nil, err
	}
	defer func() { bitmap.Close() }()

	pictures := make([]Picture, 0, len(sizes))
	for _, size := range sizes {
		// Each thumbnail comes from the one before it, which is never smaller:
		// cheaper than from the source, and no loss, for nothing has been
		// encoded in between.
		smaller, err := shrink(bitmap, size)
		if err != nil {
			return nil, err
		}
		bitmap = smaller
		picture, err := encode(bitmap, o.Format, o.Quality)
		if err != nil {
			return nil, err
		}
		pictures = append(pictures, picture)
	}
	return pictures, nil
}

// complete checks the options and fills in the defaults.
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
	}
	if !slices.Contains(photo.Formats, o.Format) {
		return o, photo.Fail(photo.Internal, "thumbnail format %q is none of %v", o.Format, photo.Formats)
	}
	if o.Quality < 1 || o.Quality > 100 {
		return o, photo.Fail(photo.Internal, "thumbnail quality must be from 1 to 100, not %d", o.Quality)
	}
	if o.MaxPixels < 0 || o.MaxFrames < 0 {
		return o, photo.Fail(photo.Internal, "the limits on pixels and frames must be positive, not %d and %d", o.MaxPixels, o.MaxFrames)
	}
	return o, nil
}
