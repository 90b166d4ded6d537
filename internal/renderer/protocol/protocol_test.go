package protocol_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/renderer/protocol"
)

var options = protocol.Options{Boxes: []photo.Box{{Width: 320, Height: 200}, {Width: 64, Height: 400}}}

// aPlaceholder is the ThumbHash of an opaque square.
var aPlaceholder = append([]byte{0x21, 0x08, 0x42, 0x07, 0x00}, make([]byte, 19)...)

// rendering returns one with a thumbnail of the size.
func rendering(size photo.Size) photo.Rendering {
	return photo.Rendering{Thumbnails: []photo.EncodedThumbnail{{Size: size, Bytes: []byte("\xff\xd8\xff")}}, Placeholder: aPlaceholder}
}

func TestRenderingsRoundTrip(t *testing.T) {
	t.Parallel()
	sent := photo.Rendering{
		Thumbnails: []photo.EncodedThumbnail{
			{Size: photo.Size{Width: 320, Height: 199}, Bytes: []byte("\xff\xd8\xff one")},
			{Size: photo.Size{Width: 64, Height: 400}, Bytes: []byte("\xff\xd8\xff two")},
		},
		Placeholder: aPlaceholder,
	}
	var pipe bytes.Buffer
	require.NoError(t, protocol.WriteRendering(&pipe, sent))
	received, failure, err := protocol.ReadAnswer(&pipe, options)
	require.NoError(t, err)
	require.Nil(t, failure)
	require.Equal(t, sent, received)
}

func TestSetupsRoundTrip(t *testing.T) {
	t.Parallel()
	sent := protocol.Setup{Options: protocol.Options{Boxes: []photo.Box{
		{Width: 320, Height: 320}, {Width: 96, Height: 96, Mode: photo.Cover}, {Width: 1200, Height: 630, Mode: photo.CoverCentre}}}}
	var pipe bytes.Buffer
	require.NoError(t, protocol.WriteSetup(&pipe, sent))
	received, err := protocol.ReadSetup(&pipe)
	require.NoError(t, err)
	require.Equal(t, sent, received)
}

// TestCoversHaveTheBoxsShape has thumbnails that fit into the box, but that no
// picture has.
func TestCoversHaveTheBoxsShape(t *testing.T) {
	t.Parallel()
	cover := protocol.Options{Boxes: []photo.Box{{Width: 320, Height: 200, Mode: photo.Cover}}}
	for size, want := range map[photo.Size]bool{
		{Width: 320, Height: 200}: true,
		{Width: 160, Height: 100}: true, // of a small source
		{Width: 320, Height: 199}: false,
		{Width: 100, Height: 100}: false,
		{Width: 640, Height: 400}: false,
	} {
		var pipe bytes.Buffer
		require.NoError(t, protocol.WriteRendering(&pipe, rendering(size)))
		_, _, err := protocol.ReadAnswer(&pipe, cover)
		require.Equal(t, want, err == nil, "%s: %v", size, err)
	}
}

func TestFailuresRoundTrip(t *testing.T) {
	t.Parallel()
	for _, f := range []struct{ sent, want *photo.Failure }{
		{photo.Fail(photo.ImageTooLarge, "12 pixels"), photo.Fail(photo.ImageTooLarge, "12 pixels")},
		{photo.Fail(photo.SourceBlocked, "not a render process's code"), photo.Fail(photo.Internal, "not a render process's code")},
		{photo.Fail(photo.CorruptImage, "%s", strings.Repeat("x", 1000)), photo.Fail(photo.CorruptImage, "%s", strings.Repeat("x", 297)+"...")},
	} {
		var pipe bytes.Buffer
		require.NoError(t, protocol.WriteFailure(&pipe, f.sent))
		_, received, err := protocol.ReadAnswer(&pipe, options)
		require.NoError(t, err)
		require.Equal(t, f.want, received)
	}
}

// TestInvalidPlaceholders has placeholders that programs of clients might not
// decode.
func TestInvalidPlaceholders(t *testing.T) {
	t.Parallel()
	for _, hash := range [][]byte{nil, aPlaceholder[:4], aPlaceholder[:20], append(bytes.Clone(aPlaceholder), 0, 0)} {
		made := rendering(photo.Size{Width: 32, Height: 20})
		made.Placeholder = hash
		var pipe bytes.Buffer
		require.NoError(t, protocol.WriteRendering(&pipe, made))
		_, _, err := protocol.ReadAnswer(&pipe, options)
		require.ErrorContains(t, err, "placeholder")
	}
}

// FuzzReadAnswer reads answers of a process that a picture has taken over.
func FuzzReadAnswer(f *testing.F) {
	var pipe bytes.Buffer
	require.NoError(f, protocol.WriteRendering(&pipe, rendering(photo.Size{Width: 32, Height: 20})))
	f.Add(bytes.Clone(pipe.Bytes()))
	pipe = bytes.Buffer{}
	require.NoError(f, protocol.WriteFailure(&pipe, photo.Fail(photo.CorruptImage, "cut short")))
	f.Add(pipe.Bytes())
	f.Add([]byte("T\xff\xff\xff\xff\x02"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		made, failure, err := protocol.ReadAnswer(bytes.NewReader(answer), options)
		if err != nil {
			require.False(t, errors.Is(err, io.EOF), "the end of the pipe is always unexpected")
			require.Nil(t, failure)
			require.Empty(t, made)
			return
		}
		if failure != nil {
			require.Empty(t, made)
			require.Contains(t, []photo.Code{photo.UnsupportedImage, photo.CorruptImage, photo.ImageTooLarge, photo.Internal}, failure.Code)
			require.Regexp(t, `^[ -~]{0,300}$`, failure.Message)
			return
		}
		require.LessOrEqual(t, len(made.Placeholder), photo.MaxPlaceholder)
		require.NotEmpty(t, made.Thumbnails)
		require.LessOrEqual(t, len(made.Thumbnails), len(options.Boxes))
		for _, p := range made.Thumbnails {
			require.Positive(t, min(p.Size.Width, p.Size.Height))
			require.True(t, p.Size.Width <= 320 && p.Size.Height <= 200 || p.Size.Width <= 64 && p.Size.Height <= 400, "%s", p.Size)
			require.True(t, bytes.HasPrefix(p.Bytes, []byte("\xff\xd8\xff")))
		}
	})
}
