package photo

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBoxesRoundTrip(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Box{
		"320x240":               {320, 240, Fit},
		"320x240:fit":           {320, 240, Fit},
		"96x96:cover":           {96, 96, Cover},
		" 96X96 : Cover ":       {96, 96, Cover},
		"1200x630:cover-centre": {1200, 630, CoverCentre},
		"32767x1:cover":         {MaxDimension, 1, Cover},
	} {
		box, err := ParseBox(text)
		require.NoError(t, err, text)
		require.Equal(t, want, box, text)
		var again struct{ Boxes []Box }
		encoded, err := json.Marshal(map[string][]Box{"Boxes": {box}})
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(encoded, &again))
		require.Equal(t, []Box{box}, again.Boxes, "%s", encoded)
	}
	require.Equal(t, "320x240", Box{Width: 320, Height: 240}.String())
	require.Equal(t, "96x96:cover-centre", Box{96, 96, CoverCentre}.String())
	_, err := Box{96, 96, 3}.MarshalText()
	require.Error(t, err)
}

func TestParseBoxNamesTheMistake(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"320":            `size "320" is not WIDTHxHEIGHT`,
		"":               "is not WIDTHxHEIGHT",
		"cover":          "is not WIDTHxHEIGHT",
		"0x5:cover":      `a side must be a whole number from 1 to 32767, not "0"`,
		"5x32768:cover":  `not "32768"`,
		"96x96:":         `box "96x96:": the mode must be one of fit, cover, cover-centre, not ""`,
		"96x96:crop":     `box "96x96:crop": the mode must be one of fit, cover, cover-centre, not "crop"`,
		"96x96:cover:x":  `not "cover:x"`,
		"96x96:covercen": `not "covercen"`,
	} {
		_, err := ParseBox(text)
		require.ErrorContains(t, err, want, text)
	}
}

func TestCoverSizes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ picture, box, scaled, want string }{
		{"3000x2000", "320x320", "480x320", "320x320"},
		{"2000x3000", "320x320", "320x480", "320x320"},
		{"3000x2000", "320x100", "320x213", "320x100"},
		{"3000x2000", "300x200", "300x200", "300x200"},
		{"30000x100", "96x96", "28800x96", "96x96"},
		// Never enlarged.
		{"100x100", "1200x630", "100x100", "100x53"},
		{"2000x100", "1200x630", "2000x100", "190x100"},
		{"1200x629", "1200x630", "1200x629", "1198x629"},
		// Never less than a pixel.
		{"1x5000", "96x96", "1x5000", "1x1"},
		{"5000x1", "96x96", "5000x1", "1x1"},
		{"1x1", "96x96", "1x1", "1x1"},
		{"3x5000", "1x300", "1x1667", "1x300"},
		{"10x10", "5000x1", "10x10", "10x1"},
	} {
		t.Run(tt.picture+" "+tt.box, func(t *testing.T) {
			t.Parallel()
			picture, err := ParseSize(tt.picture)
			require.NoError(t, err)
			for _, mode := range []Mode{Cover, CoverCentre} {
				box, err := ParseBox(tt.box)
				require.NoError(t, err)
				box.Mode = mode
				require.Equal(t, tt.scaled, box.ScaledSize(picture).String())
				require.Equal(t, tt.want, box.ThumbnailSize(picture).String())
			}
		})
	}
}

// TestSizesAreConsistent checks the properties that rendering relies on, with
// random pictures and boxes.
func TestSizesAreConsistent(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	side := func() int { return 1 + random.IntN(1+random.IntN(1000)) }
	within := func(a, b Size) bool { return a.Width <= b.Width && a.Height <= b.Height }
	for range 100_000 {
		picture := Size{side(), side()}
		var scaled []Size
		for range 2 {
			box := Box{side(), side(), Mode(random.IntN(len(modeNames)))}
			s, thumbnail := box.ScaledSize(picture), box.ThumbnailSize(picture)
			context := fmt.Sprintf("%s of %s: %s, %s", box, picture, s, thumbnail)
			require.True(t, within(s, picture), context)
			require.True(t, within(thumbnail, s), context)
			require.True(t, box.Admits(thumbnail), context)
			if box.Mode == Fit {
				require.Equal(t, s, thumbnail, context)
			} else if within(box.Size(), picture) {
				require.Equal(t, box.Size(), thumbnail, context)
			}
			scaled = append(scaled, s)
		}
		require.True(t, within(scaled[0], scaled[1]) || within(scaled[1], scaled[0]),
			"%s: one of %v can be made from the other", picture, scaled)
	}
}

func TestAdmits(t *testing.T) {
	t.Parallel()
	fit, cover := Box{320, 200, Fit}, Box{320, 200, Cover}
	for size, want := range map[Size]struct{ fit, cover bool }{
		{320, 200}: {true, true},
		{160, 100}: {true, true},
		{1, 1}:     {true, true},
		{159, 100}: {true, false},
		{320, 199}: {true, false},
		{200, 200}: {true, false},
		{0, 200}:   {},
		{321, 200}: {},
		{320, 201}: {},
	} {
		require.Equal(t, want.fit, fit.Admits(size), "%s", size)
		require.Equal(t, want.cover, cover.Admits(size), "%s", size)
	}
}
