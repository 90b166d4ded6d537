package thumbnail

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// withScreen replaces the size of a GIF's logical screen.
func withScreen(gif []byte, width, height uint16) []byte {
	gif = bytes.Clone(gif)
	binary.LittleEndian.PutUint16(gif[6:], width)
	binary.LittleEndian.PutUint16(gif[8:], height)
	return gif
}

// TestMakeShowsTheScreenOfGIF has GIFs whose frame is larger or smaller than
// their screen.
func TestMakeShowsTheScreenOfGIF(t *testing.T) {
	t.Parallel()
	frame := asGIF(t, corners(100, 80))
	animation := asGIF(t, corners(100, 80), corners(100, 80))
	for name, tt := range map[string]struct {
		source []byte
		want   photo.Size
	}{
		"larger":               {withScreen(frame, 60, 50), photo.Size{Width: 60, Height: 50}},
		"larger animation":     {withScreen(animation, 60, 50), photo.Size{Width: 60, Height: 50}},
		"wider":                {withScreen(frame, 60, 200), photo.Size{Width: 60, Height: 200}},
		"higher":               {withScreen(frame, 200, 60), photo.Size{Width: 200, Height: 60}},
		"smaller":              {withScreen(frame, 120, 100), photo.Size{Width: 120, Height: 100}},
		"a screen of monitors": {withScreen(frame, 640, 480), photo.Size{Width: 640, Height: 480}},
		"no screen":            {withScreen(frame, 0, 0), photo.Size{Width: 100, Height: 80}},
		"the same":             {frame, photo.Size{Width: 100, Height: 80}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := mustMake(t, tt.source, Options{Boxes: []photo.Box{{Width: 700, Height: 700}}, Format: photo.PNG})
			require.Equal(t, tt.want, p.Size)
			img := asNRGBA(decoded(t, p))
			requireColour(t, red, img.NRGBAAt(20, 20), 3)
			if p.Size.Width > 50 {
				requireColour(t, green, img.NRGBAAt(52, 20), 3)
			}
		})
	}
	_, err := Make(withScreen(frame, 60000, 60000), Options{Boxes: box320})
	requireFailure(t, err, photo.ImageTooLarge, "60000x60000")
}
