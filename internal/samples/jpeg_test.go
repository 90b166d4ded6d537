package samples

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWriteJPEGIsDeterministic(t *testing.T) {
	t.Parallel()

	assert.Equal(t, encode(t, 7, 90, 60, 1), encode(t, 7, 90, 60, 1))
	assert.NotEqual(t, encode(t, 7, 90, 60, 1), encode(t, 8, 90, 60, 1))
}

func TestWriteJPEGOrientation(t *testing.T) {
	t.Parallel()

	const seed, width, height = 43, 90, 120
	upright := drawLandscape(seed, width, height)
	for orientation := 1; orientation <= 8; orientation++ {
		t.Run(fmt.Sprintf("orientation %d", orientation), func(t *testing.T) {
			t.Parallel()

			written := encode(t, seed, width, height, orientation)
			assert.Equal(t, orientation, readOrientation(t, written))
			stored, err := jpeg.Decode(bytes.NewReader(written))
			require.NoError(t, err)
			for claimed := 1; claimed <= 8; claimed++ {
				seen := orient(stored, claimed)
				if claimed == orientation {
					require.Equal(t, upright.Bounds(), seen.Bounds())
					assert.Less(t, difference(upright, seen), 3.0)
				} else if seen.Bounds() == upright.Bounds() {
					assert.Greater(t, difference(upright, seen), 6.0, "the picture looks the same in orientation %d", claimed)
				}
			}
		})
	}
}

// sides has the sides of the upright picture at which the first stored row and
// column are, by orientation, as the EXIF standard names them.
var sides = [9]struct{ row, column string }{
	1: {"top", "left"}, 2: {"top", "right"}, 3: {"bottom", "right"}, 4: {"bottom", "left"},
	5: {"left", "top"}, 6: {"right", "top"}, 7: {"right", "bottom"}, 8: {"left", "bottom"},
}

// orient returns the picture as a viewer that applies the orientation shows it.
func orient(stored image.Image, orientation int) image.Image {
	w, h := stored.Bounds().Dx(), stored.Bounds().Dy()
	if orientation >= 5 {
		w, h = h, w
	}
	seen := image.NewRGBA(image.Rect(0, 0, w, h))
	for row := range stored.Bounds().Dy() {
		for column := range stored.Bounds().Dx() {
			var at image.Point
			for _, s := range []struct {
				side  string
				index int
			}{{sides[orientation].row, row}, {sides[orientation].column, column}} {
				switch s.side {
				case "top":
					at.Y = s.index
				case "bottom":
					at.Y = h - 1 - s.index
				case "left":
					at.X = s.index
				case "right":
					at.X = w - 1 - s.index
				}
			}
			seen.Set(at.X, at.Y, color.RGBAModel.Convert(stored.At(column, row)))
		}
	}
	return seen
}

// readOrientation reads the orientation from a JPEG's first segment.
func readOrientation(t *testing.T, file []byte) int {
	t.Helper()
	require.Equal(t, "\xff\xd8\xff\xe1", string(file[:4]), "an APP1 segment comes first")
	length := int(binary.BigEndian.Uint16(file[4:]))
	require.Equal(t, byte(0xff), file[4+length], "the next segment begins where this one ends")
	segment := file[6 : 4+length]
	require.Equal(t, "Exif\x00\x00MM\x00*", string(segment[:10]))
	tiff := segment[6:]
	directory := tiff[binary.BigEndian.Uint32(tiff[4:]):]
	for i := range int(binary.BigEndian.Uint16(directory)) {
		entry := directory[2+12*i:][:12]
		if binary.BigEndian.Uint16(entry) == 0x0112 {
			require.Equal(t, uint16(3), binary.BigEndian.Uint16(entry[2:]), "type SHORT")
			require.Equal(t, uint32(1), binary.BigEndian.Uint32(entry[4:]), "one value")
			return int(binary.BigEndian.Uint16(entry[8:]))
		}
	}
	t.Fatal("no orientation")
	return 0
}

func TestWriteJPEGSize(t *testing.T) {
	t.Parallel()

	const width, height = 360, 240
	for seed := range uint64(len(moods)) {
		written := encode(t, seed, width, height, 1)
		config, err := jpeg.DecodeConfig(bytes.NewReader(written))
		require.NoError(t, err)
		assert.Equal(t, image.Pt(width, height), image.Pt(config.Width, config.Height))

		// Photos of this quality have about 0.2 to 0.6 bytes per pixel; plain
		// drawings have far fewer, and noise far more.
		perPixel := float64(len(written)) / (width * height)
		assert.InDelta(t, 0.45, perPixel, 0.3, "seed %d", seed)
	}
}

func TestWriteJPEGInvalidArguments(t *testing.T) {
	t.Parallel()

	for name, tc := range map[string]struct{ width, height, quality, orientation int }{
		"no width":            {0, 10, 88, 1},
		"negative height":     {10, -1, 88, 1},
		"too wide":            {MaxSide + 1, 1, 88, 1},
		"too high":            {1, MaxSide + 1, 88, 1},
		"too many pixels":     {6001, 4000, 88, 1},
		"quality too low":     {10, 10, 0, 1},
		"quality too high":    {10, 10, 101, 1},
		"orientation 0":       {10, 10, 88, 0},
		"orientation above 8": {10, 10, 88, 9},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			var out bytes.Buffer
			require.Error(t, WriteJPEG(&out, 1, tc.width, tc.height, tc.quality, tc.orientation))
			assert.Empty(t, out.Bytes())
		})
	}
}

func TestWriteJPEGWriteError(t *testing.T) {
	t.Parallel()

	broken := errors.New("the disk is full")
	reader, writer := io.Pipe()
	require.NoError(t, reader.CloseWithError(broken))
	assert.ErrorIs(t, WriteJPEG(writer, 1, 30, 20, quality, 1), broken)
}

func encode(t *testing.T, seed uint64, width, height, orientation int) []byte {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, WriteJPEG(&out, seed, width, height, quality, orientation))
	return out.Bytes()
}

// BenchmarkWriteJPEG draws and encodes photos of six megapixels.
func BenchmarkWriteJPEG(b *testing.B) {
	const width, height = 3000, 2000
	bytes, seed := &counter{}, uint64(0)
	for b.Loop() {
		if err := WriteJPEG(bytes, seed, width, height, quality, 1); err != nil {
			b.Fatal(err)
		}
		seed++
	}
	b.ReportMetric(float64(bytes.n)/float64(b.N)/1e6, "MB/photo")
	b.ReportMetric(float64(bytes.n)/float64(b.N)/(width*height), "B/pixel")
}

// counter counts the bytes that are written to it.
type counter struct{ n int }

func (c *counter) Write(p []byte) (int, error) { c.n += len(p); return len(p), nil }
