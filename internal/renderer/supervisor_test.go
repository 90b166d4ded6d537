package renderer_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/jpeg"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/renderer"
	"github.com/photo-processor/photo-processor/internal/renderer/renderertest"
	"github.com/photo-processor/photo-processor/internal/telemetry"
)

// TestCrashFailsOnlyItsPicture kills one of two processes while both render.
func TestCrashFailsOnlyItsPicture(t *testing.T) {
	t.Parallel()
	onLinux(t)
	for name, signal := range map[string]syscall.Signal{"by itself": syscall.SIGSEGV, "by the kernel": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := configForLarge()
			c.Concurrency = 2
			b := setup(t, c, "")
			before := b.cpuTicks()
			require.Len(t, before, 2)
			about := telemetry.WithAttrs(t.Context(), slog.String("photo", "the one"))
			first, second := b.render(about, large(t)), b.render(about, large(t))
			b.waitForWork(t, before)
			victim := b.processes()[0]
			require.NoError(t, syscall.Kill(victim, signal))

			var crashed, made int
			for _, o := range []outcome{<-first, <-second} {
				if o.err != nil {
					requireCode(t, photo.RenderCrashed, o.err)
					crashed++
				} else {
					require.Len(t, o.thumbnails, 1)
					made++
				}
			}
			require.Equal(t, 1, crashed)
			require.Equal(t, 1, made)
			waitFor(t, "a new process takes its place", func() bool { return len(b.processes()) == 2 && stat(victim) == nil })
			_, err := b.Render(t.Context(), small(t))
			require.NoError(t, err)
			b.Close()
			require.Contains(t, b.log(), "a render process crashed on a picture")
			for line := range strings.Lines(b.log()) {
				if strings.Contains(line, "a render process crashed on a picture") || strings.Contains(line, "stderr of a render process") {
					require.Contains(t, line, `photo="the one"`)
				}
			}
		})
	}
}

// TestIdleProcessExits kills processes that wait for a picture.
func TestIdleProcessExits(t *testing.T) {
	t.Parallel()
	onLinux(t)
	b := setup(t, renderer.Config{}, "")
	for range 3 {
		victim := b.singleProcess(t)
		require.NoError(t, syscall.Kill(victim, syscall.SIGKILL))
		waitFor(t, "the process is gone", func() bool { return stat(victim) == nil })
		_, err := b.Render(t.Context(), small(t))
		require.NoError(t, err)
	}
}

// TestProcessExitsBeforeItReads kills processes that have a picture in their
// pipe and have read nothing of it. The picture cannot be the cause.
func TestProcessExitsBeforeItReads(t *testing.T) {
	t.Parallel()
	onLinux(t)
	b := setup(t, renderer.Config{}, "")
	for range 5 {
		victim := b.singleProcess(t)
		require.NoError(t, syscall.Kill(victim, syscall.SIGSTOP))
		waitFor(t, "the process is stopped", func() bool { return stat(victim)[0] == "T" })
		done := b.render(t.Context(), small(t))
		waitFor(t, "the picture is in the pipe", func() bool { return pipeHolds(t, victim, len(small(t))) })
		require.NoError(t, syscall.Kill(victim, syscall.SIGKILL))
		require.NoError(t, (<-done).err)
	}
}

// pipeHolds returns whether the stdin of the process holds more than n bytes.
func pipeHolds(t *testing.T, pid, n int) bool {
	t.Helper()
	stdin, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/0", pid), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	require.NoError(t, err)
	defer stdin.Close()
	held, err := unix.IoctlGetInt(int(stdin.Fd()), unix.TIOCINQ)
	require.NoError(t, err)
	return held > n
}

// TestTimeout stops one of two processes. Both get a picture, because the
// process that has waited longer gets the next one.
func TestTimeout(t *testing.T) {
	t.Parallel()
	onLinux(t)
	b := setup(t, renderer.Config{Concurrency: 2, Timeout: 3 * time.Second}, "")
	victim := b.processes()[0]
	require.NoError(t, syscall.Kill(victim, syscall.SIGSTOP))
	var all []<-chan outcome
	for range 6 {
		all = append(all, b.render(t.Context(), small(t)))
	}
	timedOut := 0
	for _, done := range all {
		if o := <-done; o.err != nil {
			requireCode(t, photo.RenderTimeout, o.err)
			require.ErrorContains(t, o.err, "RENDER_TIMEOUT")
			timedOut++
		}
	}
	require.Equal(t, 1, timedOut)
	waitFor(t, "the process is gone", func() bool { return stat(victim) == nil })
	waitFor(t, "a new process takes its place", func() bool { return len(b.processes()) == 2 })
}

func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	c := configForLarge()
	c.MaxMemory = 500_000_000
	b := setup(t, c, "")
	_, err := b.Render(t.Context(), large(t))
	requireCode(t, photo.ImageTooLarge, err)
	require.ErrorContains(t, err, "RENDER_MAX_MEMORY")

	// Memory that the Go runtime needs, rather than libvips.
	_, err = b.Render(t.Context(), make([]byte, 500<<20))
	requireCode(t, photo.ImageTooLarge, err)

	_, err = b.Render(t.Context(), small(t))
	require.NoError(t, err)
}

// TestDefaultLimitsAdmitPhones has JPEGs of 108 and 200 megapixels.
func TestDefaultLimitsAdmitPhones(t *testing.T) {
	t.Parallel()
	b := setup(t, renderer.Config{MaxMemory: renderer.MinMaxMemory}, "")
	before := b.processes()
	for _, size := range []photo.Size{{Width: 12000, Height: 9008}, {Width: 16320, Height: 12240}} {
		source := phone(t, size)
		thumbnails, err := b.Render(t.Context(), source)
		require.NoError(t, err)
		require.Equal(t, 320, thumbnails[0].Size.Width)

		progressive := bytes.Replace(source, []byte{0xff, 0xc0}, []byte{0xff, 0xc2}, 1)
		_, err = b.Render(t.Context(), progressive)
		requireCode(t, photo.ImageTooLarge, err)
		require.ErrorContains(t, err, "decoding the picture (JPEG, "+size.String()+") takes more than")
		require.ErrorContains(t, err, "the limit is 212 MB (from RENDER_MAX_MEMORY)")
	}
	require.Equal(t, before, b.processes(), "no process has crashed")
}

// phone returns a baseline JPEG of one colour. Sides are multiples of 16.
func phone(t *testing.T, size photo.Size) []byte {
	t.Helper()
	const side = 16 // of a block that all components share
	var square bytes.Buffer
	require.NoError(t, jpeg.Encode(&square, image.NewRGBA(image.Rect(0, 0, side, side)), nil))
	source := square.Bytes()
	frame, scan := bytes.Index(source, []byte{0xff, 0xc0}), bytes.Index(source, []byte{0xff, 0xda})
	const scanHeader = 2 + 12
	block := bytes.Clone(source[scan+scanHeader : len(source)-2])
	binary.BigEndian.PutUint16(source[frame+5:], uint16(size.Height))
	binary.BigEndian.PutUint16(source[frame+7:], uint16(size.Width))

	source = bytes.Join([][]byte{source[:2], {0xff, 0xdd, 0, 4, 0, 1}, source[2 : scan+scanHeader]}, nil) // one block per restart interval
	for i := range size.Width * size.Height / side / side {
		if i > 0 {
			source = append(source, 0xff, 0xd0+byte((i-1)%8))
		}
		source = append(source, block...)
	}
	return append(source, 0xff, 0xd9)
}

func TestReplacementAfterMaxPictures(t *testing.T) {
	t.Parallel()
	onLinux(t)
	b := setup(t, renderer.Config{MaxPictures: 2}, "")
	seen := map[int]int{}
	for range 5 {
		_, err := b.Render(t.Context(), small(t))
		require.NoError(t, err)
		seen[b.singleProcess(t)]++
	}
	require.GreaterOrEqual(t, len(seen), 3)
}

// TestReplacementAfterMaxGrowth has a process that keeps more than maxGrowth
// after one picture, and would not answer a second time.
func TestReplacementAfterMaxGrowth(t *testing.T) {
	t.Parallel()
	onLinux(t)
	b := setup(t, renderer.Config{}, "swells")
	for range 2 {
		_, err := b.Render(t.Context(), small(t))
		require.NoError(t, err)
	}
}

func TestMissingProgram(t *testing.T) {
	t.Parallel()
	t.Run("at the start", func(t *testing.T) {
		t.Parallel()
		missing := filepath.Join(t.TempDir(), "photo-processor-render")
		_, err := renderer.New(renderer.Config{Options: renderer.Options{Boxes: []photo.Box{box}}, Path: missing})
		require.ErrorContains(t, err, missing)
		_, err = renderer.Find(missing)
		require.ErrorContains(t, err, "RENDERER_PATH")
		_, err = renderer.Find("")
		require.ErrorContains(t, err, "photo-processor-render must lie next to renderer.test")
	})
	t.Run("another program", func(t *testing.T) {
		t.Parallel()
		_, err := renderer.New(renderer.Config{Options: renderer.Options{Boxes: []photo.Box{box}}, Path: "/bin/true"})
		require.ErrorContains(t, err, "/bin/true does not start")
	})
	t.Run("removed and restored", func(t *testing.T) {
		t.Parallel()
		onLinux(t)
		b := setup(t, renderer.Config{}, "")
		real, err := os.Readlink(b.config.Path)
		require.NoError(t, err)
		require.NoError(t, os.Remove(b.config.Path))
		victim := b.processes()[0]
		require.NoError(t, syscall.Kill(victim, syscall.SIGKILL))
		done := b.render(t.Context(), small(t))
		waitFor(t, "the start fails repeatedly", func() bool { return strings.Count(b.log(), "does not start") >= 3 })
		require.NoError(t, os.Symlink(real, b.config.Path))
		require.NoError(t, (<-done).err, "the photo waits for a process")
	})
}

// TestProcessesExitWithTheWorker kills a worker with two processes, one of
// which is stopped and cannot react to its closed pipe.
func TestProcessesExitWithTheWorker(t *testing.T) {
	t.Parallel()
	onLinux(t)
	self, err := os.Executable()
	require.NoError(t, err)
	dir := t.TempDir()
	b := &testBundle{config: renderer.Config{Path: filepath.Join(dir, "photo-processor-render")}}
	require.NoError(t, os.Symlink(renderertest.Path(t), b.config.Path))
	link := filepath.Join(dir, "worker")
	require.NoError(t, os.Symlink(self, link))
	worker := exec.Command(link)
	worker.Env = []string{"RENDERER_PATH=" + b.config.Path}
	ready, err := worker.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, worker.Start())
	_, err = ready.Read(make([]byte, 1))
	require.NoError(t, err)

	pids := b.processes()
	require.Len(t, pids, 2)
	require.NoError(t, syscall.Kill(pids[0], syscall.SIGSTOP))
	require.NoError(t, worker.Process.Kill())
	_ = worker.Wait()
	waitFor(t, "both are gone", func() bool { return len(b.processes()) == 0 })
}
