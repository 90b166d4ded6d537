package renderer_test

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/renderer"
	"github.com/photo-processor/photo-processor/internal/renderer/renderertest"
	"github.com/photo-processor/photo-processor/internal/telemetry"
)

func TestMain(m *testing.M) {
	if double, ok := doubles[filepath.Base(os.Args[0])]; ok {
		double()
		leave(0)
	}
	os.Exit(m.Run())
}

var box = photo.Size{Width: 320, Height: 320}

// testBundle is a renderer whose processes can be told from all others.
type testBundle struct {
	*renderer.Renderer
	config renderer.Config
	logged *bytes.Buffer // read it when the renderer is closed
	logMu  sync.Mutex
}

func (b *testBundle) Write(line []byte) (int, error) {
	b.logMu.Lock()
	defer b.logMu.Unlock()
	return b.logged.Write(line)
}

func (b *testBundle) log() string {
	b.logMu.Lock()
	defer b.logMu.Unlock()
	return b.logged.String()
}

// setup starts a renderer under a path of its own: a link to program, or to the
// real one.
func setup(t *testing.T, c renderer.Config, program string) *testBundle {
	t.Helper()
	b, err := tryToSetup(t, c, program)
	require.NoError(t, err)
	return b
}

func tryToSetup(t *testing.T, c renderer.Config, program string) (_ *testBundle, err error) {
	t.Helper()
	name := "photo-processor-render"
	if program != "" {
		self, err := os.Executable()
		require.NoError(t, err)
		name, c.Path = program, self
	} else {
		c.Path = renderertest.Path(t)
	}
	link := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.Symlink(c.Path, link))
	c.Path = link
	if c.Options.Boxes == nil {
		c.Options.Boxes = []photo.Size{box}
	}
	b := &testBundle{config: c, logged: &bytes.Buffer{}}
	b.config.Log = telemetry.NewLogger(b, slog.LevelDebug, false)
	b.Renderer, err = renderer.New(b.config)
	if err == nil {
		t.Cleanup(func() {
			b.Close()
			require.Empty(t, b.processes(), "a process is left")
			if t.Failed() {
				t.Log(b.log())
			}
		})
	}
	return b, err
}

// processes are the renderer's.
func (b *testBundle) processes() (pids []int) {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		if line, err := os.ReadFile(path); err == nil && strings.TrimRight(string(line), "\x00") == b.config.Path {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// stat gives fields of /proc/<pid>/stat, the first being the state.
func stat(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
}

// ticks is how much CPU time the process has used, in hundredths of a second.
func ticks(pid int) int {
	fields := stat(pid)
	if fields == nil {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return user + system
}

// awaitWork returns when all the processes are rendering.
func (b *testBundle) awaitWork(t *testing.T, before map[int]int) {
	t.Helper()
	await(t, "all processes render", func() bool {
		for pid, then := range before {
			if ticks(pid) < then+5 {
				return false
			}
		}
		return true
	})
}

// work is how much each process has done.
func (b *testBundle) work() map[int]int {
	done := map[int]int{}
	for _, pid := range b.processes() {
		done[pid] = ticks(pid)
	}
	return done
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 30*time.Second, time.Millisecond, what)
}

// outcome is what a Render that was started gives.
type outcome struct {
	pictures []photo.Picture
	err      error
}

// Render renders bytes that are there.
func (b *testBundle) Render(ctx context.Context, source []byte) ([]photo.Picture, error) {
	return b.Renderer.Render(ctx, renderer.Bytes(source))
}

func (b *testBundle) render(ctx context.Context, source []byte) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		pictures, err := b.Render(ctx, source)
		done <- outcome{pictures, err}
	}()
	return done
}

func requireCode(t *testing.T, want photo.Code, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, want, photo.CodeOf(err), "%v", err)
}

// small is a photo that takes milliseconds.
func small(t testing.TB) []byte { return asJPEG(t, 640, 426) }

func asJPEG(t testing.TB, width, height int) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	for i := range width * height {
		x, y := i%width, i/width
		img.SetRGBA(x, y, color.RGBA{uint8(x), uint8(y), uint8(x * y), 255})
	}
	var buf bytes.Buffer
	require.NoError(t, jpeg.Encode(&buf, img, nil))
	return buf.Bytes()
}

// large takes a second, and half a GB. It has 246 bytes.
func large(t testing.TB) []byte {
	t.Helper()
	source, err := os.ReadFile("testdata/black-11000x11000.webp")
	require.NoError(t, err)
	return source
}

// roomForLarge are the limits that large is within.
func roomForLarge() renderer.Config {
	return renderer.Config{
		Options:   renderer.Options{Boxes: []photo.Size{box}, MaxPixels: 1 << 30},
		MaxMemory: 3 << 30,
	}
}

func onLinux(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("processes are watched by way of /proc")
	}
}
