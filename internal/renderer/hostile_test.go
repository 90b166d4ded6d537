package renderer_test

import (
	"bytes"
	"context"
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

// doubles are faulty or hostile render processes, as a picture that took one
// over could make it. Each is the test binary under another name.
var doubles = map[string]func(){
	"worker": func() {
		if _, err := renderer.New(renderer.Config{
			Options: renderer.Options{Boxes: []photo.Box{box}}, Path: os.Getenv("RENDERER_PATH"), Concurrency: 2,
		}); err != nil {
			panic(err)
		}
		fmt.Println("ready")
		select {}
	},

	"worker-at-a-limit": func() {
		picture, err := io.ReadAll(os.Stdin)
		if err != nil {
			panic(err)
		}
		limit := func(n string) { // on the network namespaces of this user namespace
			if err := os.WriteFile("/proc/sys/user/max_net_namespaces", []byte(n), 0); err != nil {
				panic(err)
			}
		}
		config := renderer.Config{Options: renderer.Options{Boxes: []photo.Box{box}}, Path: os.Getenv("RENDERER_PATH"), MaxPictures: 1}
		report := func(r *renderer.Renderer) {
			for range 2 { // the second needs a process that started after the first
				if _, err := r.Render(context.Background(), renderer.Bytes(picture)); err != nil {
					panic(err)
				}
			}
			complete, partial := r.Processes()
			fmt.Println(r.Sandbox().Missing(), complete, partial)
		}
		limit("0")
		r, err := renderer.New(config)
		if err != nil {
			panic(err)
		}
		report(r)
		limit("1000")
		report(r)
		r.Close()
		config.RequireSandbox = true
		limit("0")
		_, err = renderer.New(config)
		fmt.Println(err)
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
		exitNow(127)
	},

	"no-frame":            answerThenExit([]byte("I am a picture, believe me")),
	"wrong-kind":          answerThenExit(frame('X', 0, nil)),
	"oversized":           answerThenExit(frame('T', 1<<32-1, bytes.Repeat([]byte{0xff}, 1<<16))),
	"oversized-thumbnail": answerThenExit(frame('T', 1<<32-1, thumbnails(1, 320, 320, 1<<32-1, "\xff\xd8\xff"))),
	"oversized-failure":   answerThenExit(frame('F', 1<<32-1, bytes.Repeat([]byte{1}, 1<<16))),
	"no-thumbnails":       answerThenExit(frame('T', 1, []byte{0})),
	"too-many-thumbnails": answerThenExit(frame('T', 1, []byte{200})),
	"too-wide":            answerThenExit(renderingFrame(thumbnails(1, 321, 100, 3, "\xff\xd8\xff"))),
	"of-no-height":        answerThenExit(renderingFrame(thumbnails(1, 320, 0, 3, "\xff\xd8\xff"))),
	"not-an-image":        answerThenExit(renderingFrame(thumbnails(1, 320, 200, 6, "<html>"))),
	"more-after-it":       answerThenExit(framed('T', string(thumbnails(1, 320, 200, 3, "\xff\xd8\xff"))+aPlaceholder+"\x00")),
	"no-placeholder":      answerThenExit(framed('T', string(thumbnails(1, 320, 200, 3, "\xff\xd8\xff"))+"\x00")),
	"long-placeholder":    answerThenExit(framed('T', string(thumbnails(1, 320, 200, 3, "\xff\xd8\xff"))+"\xff"+strings.Repeat("\x07", 255))),
	"shorter-than-said":   answerThenExit(frame('T', 9, thumbnails(1, 320, 200, 3, "\xff\xd8\xff"))),
	"truncated":           answerThenExit(frame('T', 100, thumbnails(1, 320, 200, 91, "\xff\xd8\xff"))),
	"unknown-code":        answerThenExit(framed('F', "\xeesecret")),
	"empty-failure":       answerThenExit(frame('F', 0, nil)),
	"exits":               answerThenExit(nil),
	"forges-its-message":  answerThenWait(framed('F', "\x01nothing\n\x1b[2Jlevel=ERROR msg=\"all is lost\"\u202e")),
	"answers-twice": answerThenWait(append(renderingFrame(thumbnails(1, 320, 200, 3, "\xff\xd8\xff")),
		renderingFrame(thumbnails(1, 100, 100, 3, "\xff\xd8\xff"))...)),
	"swells": func() { // by more than maxGrowth with each picture
		startUp()
		kept := bytes.Repeat([]byte{1}, 300<<20)
		os.Stdout.Write(renderingFrame(thumbnails(1, 320, 200, 3, "\xff\xd8\xff")))
		_, _ = io.Copy(io.Discard, os.Stdin)
		runtime.KeepAlive(kept)
	},
	"fills-memory": func() { // which a process in the sandbox cannot
		startUp()
		kept := bytes.Repeat([]byte{1}, renderer.MinMaxMemory+200<<20)
		_, _ = io.Copy(io.Discard, os.Stdin)
		runtime.KeepAlive(kept)
	},
	"makes-page-tables": func() { // of 4 kB for each 2 MiB that it reads
		startUp()
		const step, tables = 2 << 20, 4 << 10
		size := (renderer.MinMaxMemory + 200<<20) / tables * step
		memory, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
		if err != nil {
			panic(err)
		}
		_ = syscall.Madvise(memory, syscall.MADV_NOHUGEPAGE)
		sum := byte(0)
		for at := 0; at < size; at += step {
			sum += memory[at]
		}
		_, _ = io.Copy(io.Discard, os.Stdin)
		runtime.KeepAlive(sum)
	},
	"never-answers": func() {
		startUp()
		select {}
	},
	"never-reads-and-never-answers": func() {
		_, _ = protocol.ReadSetup(os.Stdin)
		_ = protocol.WriteHello(os.Stdout, protocol.Hello{Version: protocol.Version})
		select {}
	},
	"shouts": func() {
		startUp()
		for {
			os.Stderr.WriteString(strings.Repeat("\x1b[31mHELP\xff ", 200) + "\n")
		}
	},
	"dribbles": func() {
		startUp()
		os.Stdout.Write(frame('T', 1<<20, thumbnails(1, 320, 200, 300_000, "\xff\xd8\xff")))
		for {
			os.Stdout.Write([]byte{0})
			time.Sleep(10 * time.Millisecond)
		}
	},
}

// exitNow exits without the race detector's work at exit, which takes a second.
func exitNow(code int) { _, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, uintptr(code), 0, 0) }

// startUp does what the real program does until it has read the first source.
func startUp() {
	_, _ = protocol.ReadSetup(os.Stdin)
	_ = protocol.WriteHello(os.Stdout, protocol.Hello{Version: protocol.Version, Sandbox: protocol.Status{Seccomp: "on\n\x1b[2J"}})
	if _, err := protocol.ReadSource(os.Stdin, nil); err != nil {
		exitNow(0)
	}
}

// answerThenExit returns a double that sends the answer and exits.
func answerThenExit(answer []byte) func() {
	return func() {
		startUp()
		os.Stdout.Write(answer)
	}
}

// answerThenWait returns a double that sends the answer and keeps running.
func answerThenWait(answer []byte) func() {
	return func() {
		startUp()
		os.Stdout.Write(answer)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}
}

func frame(kind byte, n uint32, payload []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, n), payload...)
}

func renderingFrame(thumbnails []byte) []byte { return framed('T', string(thumbnails)+aPlaceholder) }

// aPlaceholder is the ThumbHash of an opaque square, after its length.
const aPlaceholder = "\x18\x21\x08\x42\x07\x00" + "\x77\x77\x77\x77\x77\x77\x77\x77\x77\x77\x77\x77\x77\x77\x77\x77\x77\x77\x77"

func framed(kind byte, payload string) []byte {
	return frame(kind, uint32(len(payload)), []byte(payload))
}

func thumbnails(count byte, width, height uint16, n uint32, content string) []byte {
	payload := binary.BigEndian.AppendUint16([]byte{count}, width)
	payload = binary.BigEndian.AppendUint16(payload, height)
	payload = binary.BigEndian.AppendUint32(payload, n)
	return append(payload, content...)
}

func TestInvalidAnswers(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"no-frame", "wrong-kind", "oversized", "oversized-thumbnail", "oversized-failure", "no-thumbnails", "too-many-thumbnails", "too-wide",
		"of-no-height", "not-an-image", "more-after-it", "no-placeholder", "long-placeholder", "shorter-than-said", "truncated", "unknown-code", "empty-failure", "exits",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, renderer.Config{}, name)
			for range 2 { // the second is for the process that replaces the first
				_, err := b.Render(t.Context(), small(t))
				requireCode(t, photo.RenderCrashed, err)
				require.EqualError(t, err, "the renderer died of this picture", "nothing of the answer is shown")
			}
		})
	}
}

func TestHangingProcess(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"never-answers", "never-reads-and-never-answers", "dribbles"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, renderer.Config{Timeout: time.Second}, name)
			_, err := b.Render(t.Context(), make([]byte, 8<<20)) // more than a pipe's buffer
			requireCode(t, photo.RenderTimeout, err)
		})
	}
}

// TestMemoryBeyondTheKernelsLimit has processes without the kernel's limit.
func TestMemoryBeyondTheKernelsLimit(t *testing.T) {
	t.Parallel()
	onLinux(t)
	for _, name := range []string{"fills-memory", "makes-page-tables"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, renderer.Config{MaxMemory: renderer.MinMaxMemory}, name)
			for range 2 { // the second is for the process that replaces the first
				_, err := b.Render(t.Context(), small(t))
				requireCode(t, photo.ImageTooLarge, err)
				require.ErrorContains(t, err, "RENDER_MAX_MEMORY")
			}
		})
	}
}

func TestForgedFailureMessage(t *testing.T) {
	t.Parallel()
	b := setup(t, renderer.Config{}, "forges-its-message")
	_, err := b.Render(t.Context(), small(t))
	requireCode(t, photo.CorruptImage, err)
	require.EqualError(t, err, `nothing??[2Jlevel=ERROR msg="all is lost"???`)
	require.Equal(t, "on??[2J", b.Sandbox().Seccomp)
}

func TestSecondAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t, renderer.Config{}, "answers-twice")
	for range 2 { // the second answer must not be taken for the next picture's
		thumbnails, err := b.Render(t.Context(), small(t))
		require.NoError(t, err)
		require.Equal(t, photo.Size{Width: 320, Height: 200}, thumbnails[0].Size)
	}
	require.Contains(t, b.log(), "sent more than one answer")
}

func TestStderrFlood(t *testing.T) {
	t.Parallel()
	b := setup(t, renderer.Config{}, "shouts")
	_, err := b.Render(t.Context(), small(t))
	requireCode(t, photo.RenderCrashed, err)
	b.Close()
	require.Less(t, len(b.log()), 40_000)
	require.Contains(t, b.log(), "writes too much to stderr")
	require.NotContains(t, b.log(), "\x1b")
}

func TestProcessDoesNotStart(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"of-another-build":  "it is from another build",
		"without-a-hello":   "a frame of kind",
		"with-a-long-hello": "over the limit",
		"with-a-reason":     "libvips.so.42: no such ?[31mfile (exit status 127)",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := trySetup(t, renderer.Config{}, name)
			require.ErrorContains(t, err, want)
		})
	}
}

// TestClaimedLengthReservesNoMemory is not parallel: it measures the
// allocations of the whole process.
func TestClaimedLengthReservesNoMemory(t *testing.T) {
	options := renderer.Options{Boxes: []photo.Box{{Width: photo.MaxDimension, Height: photo.MaxDimension}}}
	claim := frame('T', 1<<32-1, thumbnails(1, photo.MaxDimension, photo.MaxDimension, 1<<32-100, "\xff\xd8\xff"))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _, err := protocol.ReadAnswer(bytes.NewReader(claim), options)
	runtime.ReadMemStats(&after)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20))
}
