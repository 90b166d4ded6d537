package thumbnail

import (
	"encoding/binary"
	"log/slog"
	"slices"

	"github.com/davidbyttow/govips/v2/vips"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// encode encodes the bitmap in the format, without metadata.
func encode(bitmap *vips.ImageRef, f photo.Format, quality int) (photo.EncodedThumbnail, error) {
	var (
		encoded []byte
		err     error
	)
	switch f {
	case photo.WebP:
		encoded, _, err = bitmap.ExportWebp(&vips.WebpExportParams{
			Quality:         quality,
			ReductionEffort: 4, // of 6; the encoder's default
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
			Filter:        vips.PngFilterAll, // halves the size of photos and more
			StripMetadata: true,
		})
	default:
		// Baseline: a thumbnail arrives in one piece, so a progressive JPEG has
		// no benefit, and below about 20 kB it is larger.
		encoded, _, err = bitmap.ExportJpeg(&vips.JpegExportParams{
			Quality:        quality,
			OptimizeCoding: true,                          // a sixth smaller for half a millisecond
			SubsampleMode:  vips.VipsForeignSubsampleAuto, // none from quality 90 on
			StripMetadata:  true,
		})
	}
	if err != nil {
		return photo.EncodedThumbnail{}, internalFailure("encoded", err)
	}
	if f == photo.WebP {
		encoded = withoutEXIF(encoded)
	}
	return photo.EncodedThumbnail{Size: sizeOf(bitmap), Bytes: encoded}, nil
}

// withoutEXIF removes the EXIF chunk from a WebP file. libvips 8.14 writes one
// even with StripMetadata. It has no data of the source, but takes 200 bytes,
// which is a tenth of a small thumbnail.
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
			kept[len(kept)-size+chunkHeader] &^= 0x08 // the flag for an EXIF chunk
		}
	}
	binary.LittleEndian.PutUint32(kept[4:], uint32(len(kept)-8))
	return kept
}

// internalFailure returns the failure of a step on a bitmap. Such a step no
// longer depends on the source's bytes, so the usual cause is a lack of memory.
// step is a participle, such as "encoded".
func internalFailure(step string, err error) error {
	reason := errorText(err)
	slog.Error("libvips failed on a decoded picture; its photo fails", "step", step, "reason", reason)
	if isOutOfMemory(reason) {
		return photo.Fail(photo.ImageTooLarge, "the thumbnail could not be %s within the limit on memory (RENDER_MAX_MEMORY)", step)
	}
	return photo.Fail(photo.Internal, "the thumbnail could not be %s", step)
}
