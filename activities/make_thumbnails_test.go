package activities_test

import (
	"context"
	"errors"
	"image/color"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.n16f.net/thumbhash"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/renderer"
)

func TestPictureFailures(t *testing.T) {
	b := setup(t)
	for name, test := range map[string]struct {
		content   []byte
		renderer  activities.Renderer
		wantType  string
		retryable bool
	}{
		"not an image": {content: []byte("<html>"), wantType: string(photo.UnsupportedImage)},
		"truncated":    {content: picture(t, 300, 200, color.White)[:700], wantType: string(photo.CorruptImage)},
		"crash":        {renderer: failing{photo.Fail(photo.RenderCrashed, "crashed")}, wantType: string(photo.RenderCrashed), retryable: true},
		"a defect":     {renderer: failing{errors.New("password=hunter2")}, wantType: string(photo.Internal), retryable: true},
	} {
		t.Run(name, func(t *testing.T) {
			b.run = b.nextRun()
			b.mark(t, b.run)
			if test.content != nil {
				b.serve(test.content)
			}
			usual := b.Renderer
			defer func() { b.Renderer = usual }()
			if test.renderer != nil {
				b.Renderer = test.renderer
			}
			_, err := b.make(b.run)
			requireType(t, err, test.wantType, test.retryable)
			require.NotContains(t, err.Error(), "hunter2", "details of defects are for the log")
		})
	}
	require.NoError(t, b.finish(b.run, photo.Fail(photo.CorruptImage, "x")))
	require.Empty(t, b.files(t))
}

// failing is a renderer that always returns the error.
type failing struct{ err error }

func (f failing) Render(context.Context, renderer.Source) (photo.Rendering, error) {
	return photo.Rendering{}, f.err
}

// TestASourceThatIsNotInTheCache makes thumbnails on another worker than the
// one that fetched the source, after the source has changed.
func TestASourceThatIsNotInTheCache(t *testing.T) {
	b := setup(t)
	b.mark(t, b.run)
	fetched, err := b.fetch(b.run)
	require.NoError(t, err)
	b.Sources = newSources(b.dir)
	content := picture(t, 200, 300, color.Black)
	b.serve(content)
	made, err := b.make(b.run)
	require.NoError(t, err)
	require.True(t, made.FetchedAgain)
	require.NotEqual(t, fetched.SourceInfo, made.Source)
	require.NoError(t, b.finish(b.run, nil))

	// The row and the thumbnails describe the bytes that were rendered.
	want := infoOf(content)
	require.Equal(t, want, made.Source)
	var stored photo.SourceInfo
	conn, err := pgx.Connect(t.Context(), b.database)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT source_bytes, source_sha256, source_media_type FROM photos`).
		Scan(&stored.Bytes, &stored.SHA256, &stored.MediaType))
	require.Equal(t, want, stored)
	require.Equal(t, photo.Size{Width: 67, Height: 100}, b.get(t).Thumbnails[0].Size)
	shown, err := thumbhash.DecodeImage(b.get(t).Placeholder)
	require.NoError(t, err)
	red, green, blue, _ := shown.At(5, 5).RGBA()
	require.Less(t, max(red, green, blue), uint32(0x1000), "the placeholder is black")
	b.requireExact(t)
}
