package renderer_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/renderer"
	"github.com/photo-processor/photo-processor/internal/renderer/renderertest"
)

// FuzzRender sends damaged pictures through the sandbox. A crash is contained
// there, but it is a defect worth reporting.
func FuzzRender(f *testing.F) {
	pictures, err := filepath.Glob("../../cmd/photo-processor-render/warmup/*")
	require.NoError(f, err)
	require.NotEmpty(f, pictures)
	for _, path := range pictures {
		content, err := os.ReadFile(path)
		require.NoError(f, err)
		f.Add(content)
		f.Add(content[:len(content)/2])
	}
	f.Add([]byte("<svg/>"))
	f.Add([]byte{})
	r, err := renderer.New(renderer.Config{
		Path: renderertest.Path(f), Timeout: 20 * time.Second,
		Options: renderer.Options{Boxes: []photo.Box{{Width: 32, Height: 32}, {Width: 20, Height: 30, Mode: photo.Cover}}, MaxPixels: 1_000_000},
	})
	require.NoError(f, err)
	f.Cleanup(r.Close)
	f.Fuzz(func(t *testing.T, content []byte) {
		made, err := r.Render(t.Context(), renderer.Bytes(content))
		switch code := photo.CodeOf(err); code {
		case "":
			require.NoError(t, err)
			require.NotEmpty(t, made.Thumbnails)
			for _, p := range made.Thumbnails {
				require.LessOrEqual(t, max(p.Size.Width, p.Size.Height), 32)
			}
		case photo.UnsupportedImage, photo.CorruptImage, photo.ImageTooLarge:
		default:
			t.Fatalf("%s: %v", code, err)
		}
	})
}
