package renderer_test

import (
	"bytes"
	"context"
	"image/jpeg"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/renderer"
	"github.com/photo-processor/photo-processor/internal/thumbnail"
)

// TestEveryFormat compares thumbnails from the sandbox with those made in this
// process.
func TestEveryFormat(t *testing.T) {
	t.Parallel()
	require.NoError(t, thumbnail.Startup())
	sources, err := filepath.Glob("../../cmd/photo-processor-render/warmup/*")
	require.NoError(t, err)
	require.Len(t, sources, 7)
	for _, format := range photo.Formats {
		t.Run(string(format), func(t *testing.T) {
			t.Parallel()
			options := renderer.Options{Boxes: []photo.Box{{Width: 12, Height: 12}, {Width: 20, Height: 20}, {Width: 5, Height: 14, Mode: photo.Cover}}, Format: format}
			b := setup(t, renderer.Config{Options: options}, "")
			all := map[string][]byte{"a larger JPEG": small(t)}
			for _, path := range sources {
				content, err := os.ReadFile(path)
				require.NoError(t, err)
				all[filepath.Base(path)] = content
			}
			for name, source := range all {
				want, err := thumbnail.Make(source, thumbnail.Options(options))
				require.NoError(t, err, name)
				got, err := b.Renderer.Render(t.Context(), renderer.Bytes(source))
				require.NoError(t, err, name)
				require.Len(t, got.Thumbnails, 3)
				require.Equal(t, want, got, name)
			}
		})
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	b := setup(t, renderer.Config{Options: renderer.Options{MaxPixels: 1000}}, "")
	_, err := b.Render(t.Context(), []byte("<svg/>"))
	requireCode(t, photo.UnsupportedImage, err)
	require.ErrorContains(t, err, "a photo must be one of JPEG, PNG")
	_, err = b.Render(t.Context(), small(t))
	requireCode(t, photo.ImageTooLarge, err)
	require.EqualError(t, err, "the picture has 272640 pixels (640x426); the limit is 1000 (IMAGE_MAX_PIXELS)")
	_, err = b.Render(t.Context(), small(t)[:500])
	requireCode(t, photo.CorruptImage, err)
	_, err = b.Render(t.Context(), nil)
	requireCode(t, photo.UnsupportedImage, err)
}

func TestWaiting(t *testing.T) {
	t.Parallel()
	onLinux(t)
	b := setup(t, renderer.Config{}, "")
	require.Zero(t, b.Waiting())
	require.NoError(t, b.Ready())
	pid := b.processes()[0]
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	var all []<-chan outcome
	for range 3 {
		all = append(all, b.render(t.Context(), small(t)))
	}
	waitFor(t, "one picture is taken", func() bool { return b.Waiting() == 2 })
	require.NoError(t, syscall.Kill(pid, syscall.SIGCONT))
	for _, done := range all {
		require.NoError(t, (<-done).err)
	}
	require.Zero(t, b.Waiting())
	b.Close()
	require.Error(t, b.Ready())
}

func TestCancelKillsTheProcess(t *testing.T) {
	t.Parallel()
	onLinux(t)
	c := configForLarge()
	c.Concurrency = 2
	b := setup(t, c, "")
	before := b.cpuTicks()
	ctx, cancel := context.WithCancel(t.Context())
	canceled, other := b.render(ctx, large(t)), b.render(t.Context(), large(t))
	b.waitForWork(t, before)
	cancel()
	require.ErrorIs(t, (<-canceled).err, context.Canceled)
	require.NoError(t, (<-other).err)
	gone := func() (n int) {
		for pid := range before {
			if stat(pid) == nil {
				n++
			}
		}
		return n
	}
	waitFor(t, "the process is killed", func() bool { return gone() == 1 })

	_, err := b.Render(ctx, small(t))
	require.ErrorIs(t, err, context.Canceled, "rendering does not begin")
}

func TestClose(t *testing.T) {
	t.Parallel()
	onLinux(t)
	b := setup(t, configForLarge(), "")
	before := b.cpuTicks()
	rendering := b.render(t.Context(), large(t))
	b.waitForWork(t, before)
	waiting := b.render(t.Context(), small(t))
	b.Close()
	require.Empty(t, b.processes())
	require.ErrorIs(t, (<-rendering).err, renderer.ErrClosed)
	require.ErrorIs(t, (<-waiting).err, renderer.ErrClosed)
	_, err := b.Render(t.Context(), small(t))
	require.ErrorIs(t, err, renderer.ErrClosed)
	b.Close() // a second call is allowed
}

func TestConcurrentRenders(t *testing.T) {
	t.Parallel()
	b := setup(t, renderer.Config{Concurrency: 2, MaxPictures: 10}, "")
	source := small(t)
	var all []<-chan outcome
	for range 60 {
		all = append(all, b.render(t.Context(), source))
	}
	for _, done := range all {
		o := <-done
		require.NoError(t, o.err)
		require.Len(t, o.thumbnails, 1)
		decoded, err := jpeg.DecodeConfig(bytes.NewReader(o.thumbnails[0].Bytes))
		require.NoError(t, err)
		require.Equal(t, o.thumbnails[0].Size, photo.Size{Width: decoded.Width, Height: decoded.Height})
	}
}
