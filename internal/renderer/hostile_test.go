package renderer_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/renderer"
	"github.com/photo-processor/photo-processor/internal/renderer/protocol"
)

// doubles are processes that are not what they should be: what a renderer may
// become that a picture has taken over. Each is the test binary under another
// name.
var doubles = map[string]func(){
	"worker": func() {
		if _, err := renderer.New(renderer.Config{
			Options: renderer.Options{Boxes: []photo.Size{box}}, Path: os.Getenv("RENDERER_PATH"), Concurrency: 2,
		}); err != nil {
			panic(err)
		}
		fmt.Println("ready")
		select {}
	},

	"of-another-build": func() {
		_ = protocol.WriteHello(os.Stdout, protocol.Hello{Version: protocol.Version + 1})
		_, _ = io.Copy(io.Discard, os.Stdin)
	},
	"without-a-hello": func() { os.Stdout.WriteString("Good day!\n") },
	"with-a-long-hello": func() {
		os.Stdout.Write(frame('H', 1<<31, nil))
		_, _ = io.Copy(io.Discard, os.Stdin)
	},
	"with-a-reason": func() {
		os.Stderr.WriteString("libvips.so.42: no such \x1b[31mfile\n")
		leave(127)
	},

	"no-frame":           answering([]byte("I am a picture, believe me")),
	"wrong-kind":         answering(frame('X', 0, nil)),
	"oversized":          answering(frame('T', 1<<32-1, bytes.Repeat([]byte{0xff}, 1<<16))),
	"oversized-picture":  answering(frame('T', 1<<32-1, thumbnails(1, 320, 320, 1<<32-1, "\xff\xd8\xff"))),
	"oversized-failure":  answering(frame('F', 1<<32-1, bytes.Repeat([]byte{1}, 1<<16))),
	"no-pictures":        answering(frame('T', 1, []byte{0})),
	"too-many-pictures":  answering(frame('T', 1, []byte{200})),
	"too-wide":           answering(sized(thumbnails(1, 321, 100, 3, "\xff\xd8\xff"))),
	"of-no-height":       answering(sized(thumbnails(1, 320, 0, 3, "\xff\xd8\xff"))),
	"not-an-image":       answering(sized(thumbnails(1, 320, 200, 6, "<html>"))),
	"more-after-it":      answering(sized(append(thumbnails(1, 320, 200, 3, "\xff\xd8\xff"), 0))),
	"shorter-than-said":  answering(frame('T', 9, thumbnails(1, 320, 200, 3, "\xff\xd8\xff"))),
	"truncated":          answering(frame('T', 100, thumbnails(1, 320, 200, 91, "\xff\xd8\xff"))),
	"unknown-code":       answering(sized2('F', "\xeesecret")),
	"empty-failure":      answering(frame('F', 0, nil)),
	"exits":              answering(nil),
	"forges-its-message": answeringWell(sized2('F', "\x01nothing\n\x1b[2Jlevel=ERROR msg=\"all is lost\"\u202e")),
	"answers-twice": answeringWell(append(sized(thumbnails(1, 320, 200, 3, "\xff\xd8\xff")),
		sized(thumbnails(1, 100, 100, 3, "\xff\xd8\xff"))...)),
	"swells": func() { // by more than it may keep, with each picture
		greet()
		kept := bytes.Repeat([]byte{1}, 300<<20)
		os.Stdout.Write(sized(thumbnails(1, 320, 200, 3, "\xff\xd8\xff")))
		_, _ = io.Copy(io.Discard, os.Stdin)
		runtime.KeepAlive(kept)
	},
	"never-answers": func() {
		greet()
		select {}
	},
	"never-reads-and-never-answers": func() {
		_, _ = protocol.ReadSetup(os.Stdin)
		_ = protocol.WriteHello(os.Stdout, protocol.Hello{Version: protocol.Version})
		select {}
	},
	"shouts": func() {
		greet()
		for {
			os.Stderr.WriteString(strings.Repeat("\x1b[31mHELP\xff ", 200) + "\n")
		}
	},
	"dribbles": func() {
		greet()
		os.Stdout.Write(frame('T', 1<<20, thumbnails(1, 320, 200, 300_000, "\xff\xd8\xff")))
		for {
			os.Stdout.Write([]byte{0})
			time.Sleep(10 * time.Millisecond)
		}
	},
}

// leave ends the process without what the race detector does then, which takes a
// second.
func leave(code int) { syscall.RawSyscall(syscall.SYS_EXIT_GROUP, uintptr(code), 0, 0) }

// greet is what the real one does, up to the first source.
func greet() {
	_, _ = protocol.ReadSetup(os.Stdin)
	_ = protocol.WriteHello(os.Stdout, protocol.Hello{Version: protocol.Version, Sandbox: protocol.Status{Seccomp: "on\n\x1b[2J"}})
	if _, err := protocol.ReadSource(os.Stdin, nil); err != nil {
		leave(0)
	}
}

// answering greets, answers so, and ends.
func answering(answer []byte) func() {
	return func() {
		greet()
		os.Stdout.Write(answer)
	}
}

// answeringWell goes on after it.
func answeringWell(answer []byte) func() {
	return func() {
		greet()
		os.Stdout.Write(answer)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}
}

func frame(kind byte, n uint32, payload []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, n), payload...)
}

func sized(payload []byte) []byte { return frame('T', uint32(len(payload)), payload) }

func sized2(kind byte, payload string) []byte {
	return frame(kind, uint32(len(payload)), []byte(payload))
}

func thumbnails(count byte, width, height uint16, n uint32, content string) []byte {
	payload := binary.BigEndian.AppendUint16([]byte{count}, width)
	payload = binary.BigEndian.AppendUint16(payload, height)
	payload = binary.BigEndian.AppendUint32(payload, n)
	return append(payload, content...)
}

func TestAProcessThatLies(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"no-frame", "wrong-kind", "oversized", "oversized-picture", "oversized-failure", "no-pictures", "too-many-pictures", "too-wide",
		"of-no-height", "not-an-image", "more-after-it", "shorter-than-said", "truncated", "unknown-code", "empty-failure", "exits",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, renderer.Config{}, name)
			for range 2 { // a new one takes its place, and is no better
				_, err := b.Render(t.Context(), small(t))
				requireCode(t, photo.RenderCrashed, err)
				require.EqualError(t, err, "the renderer died of this picture", "nothing of what it says is shown")
			}
		})
	}
}

func TestAProcessThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"never-answers", "never-reads-and-never-answers", "dribbles"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, renderer.Config{Timeout: time.Second}, name)
			_, err := b.Render(t.Context(), make([]byte, 8<<20)) // more than fits into a pipe
			requireCode(t, photo.RenderTimeout, err)
		})
	}
}

func TestAProcessThatForges(t *testing.T) {
	t.Parallel()
	b := setup(t, renderer.Config{}, "forges-its-message")
	_, err := b.Render(t.Context(), small(t))
	requireCode(t, photo.CorruptImage, err)
	require.EqualError(t, err, `nothing??[2Jlevel=ERROR msg="all is lost"???`)
	require.Equal(t, "on??[2J", b.Sandbox().Seccomp)
}

func TestAProcessThatSaysMoreThanItWasAsked(t *testing.T) {
	t.Parallel()
	b := setup(t, renderer.Config{}, "answers-twice")
	for range 2 { // the second answer is for no one
		pictures, err := b.Render(t.Context(), small(t))
		require.NoError(t, err)
		require.Equal(t, photo.Size{Width: 320, Height: 200}, pictures[0].Size)
	}
	require.Contains(t, b.log(), "more than it was asked for")
}

func TestAProcessThatShouts(t *testing.T) {
	t.Parallel()
	b := setup(t, renderer.Config{}, "shouts")
	_, err := b.Render(t.Context(), small(t))
	requireCode(t, photo.RenderCrashed, err)
	b.Close()
	require.Less(t, len(b.log()), 40_000)
	require.Contains(t, b.log(), "does not stop talking")
	require.NotContains(t, b.log(), "\x1b")
}

func TestAProcessThatDoesNotStart(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"of-another-build":  "it is of another build",
		"without-a-hello":   "a frame of kind",
		"with-a-long-hello": "over the limit",
		"with-a-reason":     "libvips.so.42: no such ?[31mfile (exit status 127)",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := tryToSetup(t, renderer.Config{}, name)
			require.ErrorContains(t, err, want)
		})
	}
}

// TestClaimsReserveNoMemory is not parallel: it looks at what the whole process
// allocates.
func TestClaimsReserveNoMemory(t *testing.T) {
	options := renderer.Options{Boxes: []photo.Size{{Width: photo.MaxDimension, Height: photo.MaxDimension}}}
	claim := frame('T', 1<<32-1, thumbnails(1, photo.MaxDimension, photo.MaxDimension, 1<<32-100, "\xff\xd8\xff"))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _, err := protocol.ReadAnswer(bytes.NewReader(claim), options)
	runtime.ReadMemStats(&after)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20))
}
