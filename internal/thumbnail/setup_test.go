package thumbnail

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/davidbyttow/govips/v2/vips"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// TestMain fails the run if a test left anything behind in libvips.
func TestMain(m *testing.M) {
	if err := Startup(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if left := leftInLibvips(); left != "" && code == 0 {
		fmt.Fprintln(os.Stderr, "libvips leaks:", left)
		code = 1
	}
	os.Exit(code)
}

// leftInLibvips describes the memory that libvips holds, or returns "" if there
// is none. It polls for up to 10 s, because libvips' threads free their buffers
// a moment after a picture is done, without a signal.
func leftInLibvips() string {
	deadline := time.Now().Add(10 * time.Second)
	for {
		left := heldByLibvips()
		if left == "" || time.Now().After(deadline) {
			return left
		}
		runtime.Gosched()
	}
}

// heldByLibvips describes the memory that libvips holds now.
func heldByLibvips() string {
	var stats vips.MemoryStats
	vips.ReadVipsMemStats(&stats)
	refs := vips.OpenImageRefs()
	if stats.Mem == 0 && stats.Allocs == 0 && stats.Files == 0 && refs == 0 {
		return ""
	}
	return fmt.Sprintf("%d bytes, %d allocations, %d files, %d images", stats.Mem, stats.Allocs, stats.Files, refs)
}

// box320 is the box of the default configuration.
var box320 = []photo.Box{{Width: 320, Height: 320}}

// makeThumbnails is Make without the placeholder.
func makeThumbnails(source []byte, o Options) ([]photo.EncodedThumbnail, error) {
	made, err := Make(source, o)
	return made.Thumbnails, err
}

// mustMake makes a single thumbnail.
func mustMake(t testing.TB, source []byte, o Options) photo.EncodedThumbnail {
	t.Helper()
	thumbnails, err := makeThumbnails(source, o)
	require.NoError(t, err)
	require.Len(t, thumbnails, 1)
	return thumbnails[0]
}

// requireFailure requires a failure with the code. Its message must contain the
// words, and no terms of libvips or Go.
func requireFailure(t testing.TB, err error, code photo.Code, words ...string) {
	t.Helper()
	var failure *photo.Failure
	require.ErrorAs(t, err, &failure)
	require.Equal(t, code, failure.Code, "%s", failure.Message)
	for _, w := range words {
		require.Contains(t, failure.Message, w)
	}
	for _, jargon := range []string{"vips", "Stack", "goroutine", "\n"} {
		require.NotContains(t, failure.Message, jargon)
	}
}
