package thumbnail

import (
	"encoding/binary"
	"log/slog"
	"slices"

	"github.com/davidbyttow/govips/v2/vips"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// encode writes the bitmap in the format.
func encode(bitmap *vips.ImageRef, f photo.Format, quality int) (Picture, error) {
	var (
		encoded []byte
		err     error
	)
	switch f {
	case photo.WebP:
		encoded, _, err = bitmap.ExportWebp(&vips.WebpExportParams{
			Quality:         quality,
			ReductionEffort: 4, // of 6; the encoder's own choice
			StripMetadata:   true,
		})
	case photo.AVIF:
		encoded, _, err = bitmap.ExportAvif(&vips.AvifExportParams{
			Quality:       quality,
			Bitdepth:      8,
			Effort:        2, // of 9; 4 takes five times as long and saves nothing at these sizes
			StripMetadata: true,
		})
	case photo.PNG:
		encoded, _, err = bitmap.ExportPng(&vips.PngExportParams{
			Compression:   6,                 // of 9
			Filter:        vips.PngFilterAll, // photos get less than half as large as with none
			StripMetadata: true,
		})
	default:
		// Baseline: a thumbnail is there at once, so that there is nothing to
		// see of progress, and below some 20 kB it makes the file larger.
		encoded, _, err = bitmap.ExportJpeg(&vips.JpegExportParams{
			Quality:        quality,
			OptimizeCoding: true,                          // a sixth smaller for half a millisecond
			SubsampleMode:  vips.VipsForeignSubsampleAuto, // none from quality 90 on
			StripMetadata:  true,
		})
	}
	if err != nil {
		return Picture{}, internal("encoded", err)
	}
	if f == photo.WebP {
		encoded = withoutEXIF(encoded)
	}
	return Picture{Size: sizeOf(bitmap), Bytes: encoded}, nil
}

// withoutEXIF removes the EXIF chunk from a WebP file. libvips 8.14 writes one
// whether it is told to or not. There is nothing of the source in it, but it is
// of no use, and two hundred bytes of a thumbnail that may have two thousand.
func withoutEXIF(webp []byte) []byte {
	const riffHeader, chunkHeader = 12, 8
	kept := slices.Clone(webp[:riffHeader])
	for rest := webp[riffHeader:]; len(rest) >= chunkHeader; {
		size := int(binary.LittleEndian.Uint32(rest[4:]))
		size = min(len(rest), chunkHeader+size+size%2)
		chunk := rest[:size]
		rest = rest[size:]
		if hasSignature(chunk, "EXIF") {
			continue
		}
		kept = append(kept, chunk...)
		if hasSignature(chunk, "VP8X") {
			kept[len(kept)-size+chunkHeader] &^= 0x08 // the flag that says there is EXIF
		}
	}
	binary.LittleEndian.PutUint32(kept[4:], uint32(len(kept)-8))
	return kept
}

// internal is the failure of a step on a bitmap of our own making, which has no
// excuse but a lack of memory.
func internal(step string, err error) error {
	slog.Error("libvips failed on a bitmap", "to be", step, "reason", reason(err))
	return photo.Fail(photo.Internal, "the thumbnail could not be %s", step)
}
