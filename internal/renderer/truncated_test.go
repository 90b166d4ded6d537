package renderer_test

import (
	"bytes"
	"image"
	"image/jpeg"
	"image/png"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/renderer"
)

// TestTruncatedAtEvery64thByte truncates pictures. Wherever that is, Render
// fails instead of returning a thumbnail with a grey half, and no process
// crashes.
func TestTruncatedAtEvery64thByte(t *testing.T) {
	t.Parallel()
	detail := image.NewGray(image.Rect(0, 0, 96, 64))
	for i := range detail.Pix { // detail that no format compresses well
		detail.Pix[i] = byte(i*i>>3) ^ byte(i*7)
	}
	var asPNG, asJPEG bytes.Buffer
	require.NoError(t, png.Encode(&asPNG, detail))
	require.NoError(t, jpeg.Encode(&asJPEG, detail, &jpeg.Options{Quality: 95}))
	webp, err := setup(t, renderer.Config{Options: renderer.Options{Format: photo.WebP, Quality: 95}}, "").Render(t.Context(), asPNG.Bytes())
	require.NoError(t, err)

	b := setup(t, renderer.Config{}, "")
	before := b.processes()
	for name, whole := range map[string][]byte{"JPEG": asJPEG.Bytes(), "PNG": asPNG.Bytes(), "WebP": webp[0].Bytes} {
		require.Greater(t, len(whole), 1500, name)
		for n := 0; n < len(whole)-1; n += 64 {
			_, err := b.Render(t.Context(), whole[:n])
			require.Contains(t, []photo.Code{photo.CorruptImage, photo.UnsupportedImage}, photo.CodeOf(err), "%s cut at %d of %d bytes: %v", name, n, len(whole), err)
		}
		_, err := b.Render(t.Context(), whole)
		require.NoError(t, err, name)
	}
	require.Equal(t, before, b.processes(), "no process has crashed")
}
