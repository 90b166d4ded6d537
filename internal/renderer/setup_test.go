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
		exitNow(0)
	}
	os.Exit(m.Run())
}

var box = photo.Box{Width: 320, Height: 320}

// testBundle is a renderer whose processes are identified by the path of their
// program.
type testBundle struct {
	*renderer.Renderer
	config renderer.Config
	logged *bytes.Buffer
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

// setup starts a renderer with the named double, or the real program if the
// name is empty, linked to a path of its own.
func setup(t *testing.T, c renderer.Config, program string) *testBundle {
	t.Helper()
	b, err := trySetup(t, c, program)
	require.NoError(t, err)
	return b
}

// trySetup is setup for renderers that may not start.
func trySetup(t *testing.T, c renderer.Config, program string) (_ *testBundle, err error) {
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
		c.Options.Boxes = []photo.Box{box}
	}
	b := &testBundle{config: c, logged: &bytes.Buffer{}}
	b.config.Log = telemetry.NewLogger(b, slog.LevelDebug, false)
	b.Renderer, err = renderer.New(b.config)
	if err == nil {
		t.Cleanup(func() {
			b.Close()
			require.Empty(t, b.processes(), "a process is left behind")
			if t.Failed() {
				t.Log(b.log())
			}
		})
	}
	return b, err
}

// processes returns the renderer's process IDs.
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

// singleProcess waits until there is exactly one process, since during a
// replacement there are none or two, and returns its ID.
func (b *testBundle) singleProcess(t *testing.T) (pid int) {
	t.Helper()
	waitFor(t, "one process", func() bool {
		pids := b.processes()
		if len(pids) == 1 {
			pid = pids[0]
		}
		return len(pids) == 1
	})
	return pid
}

// stat returns the fields of /proc/<pid>/stat from the state on, or nil if
// there is no such process.
func stat(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
}

// ticks returns the CPU time of the process, in hundredths of a second.
func ticks(pid int) int {
	fields := stat(pid)
	if fields == nil {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return user + system
}

// waitForWork waits until all processes have rendered for 0.05 s since before.
func (b *testBundle) waitForWork(t *testing.T, before map[int]int) {
	t.Helper()
	waitFor(t, "all processes render", func() bool {
		for pid, then := range before {
			if ticks(pid) < then+5 {
				return false
			}
		}
		return true
	})
}

// cpuTicks returns the CPU time of each process.
func (b *testBundle) cpuTicks() map[int]int {
	done := map[int]int{}
	for _, pid := range b.processes() {
		done[pid] = ticks(pid)
	}
	return done
}

func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 30*time.Second, time.Millisecond, what)
}

// outcome holds the results of Render.
type outcome struct {
	thumbnails []photo.EncodedThumbnail
	err        error
}

// Render renders bytes in memory.
func (b *testBundle) Render(ctx context.Context, source []byte) ([]photo.EncodedThumbnail, error) {
	made, err := b.Renderer.Render(ctx, renderer.Bytes(source))
	return made.Thumbnails, err
}

// render renders in the background.
func (b *testBundle) render(ctx context.Context, source []byte) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		thumbnails, err := b.Render(ctx, source)
		done <- outcome{thumbnails, err}
	}()
	return done
}

func requireCode(t *testing.T, want photo.Code, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, want, photo.CodeOf(err), "%v", err)
}

// small returns a photo that renders in milliseconds.
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

// large returns a photo of 246 bytes that takes a second and 500 MB to render.
func large(t testing.TB) []byte {
	t.Helper()
	source, err := os.ReadFile("testdata/black-11000x11000.webp")
	require.NoError(t, err)
	return source
}

// configForLarge returns limits that admit large.
func configForLarge() renderer.Config {
	return renderer.Config{
		Options:   renderer.Options{Boxes: []photo.Box{box}, MaxPixels: 1 << 30},
		MaxMemory: 3 << 30,
	}
}

func onLinux(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the test observes processes through /proc")
	}
}
