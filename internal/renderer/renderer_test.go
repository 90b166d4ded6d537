package renderer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/jpeg"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/renderer"
	"github.com/photo-processor/photo-processor/internal/renderer/renderertest"
	"github.com/photo-processor/photo-processor/internal/telemetry"
	"github.com/photo-processor/photo-processor/internal/thumbnail"
)

// TestEveryFormat compares what is made in the sandbox with what is made outside.
func TestEveryFormat(t *testing.T) {
	t.Parallel()
	require.NoError(t, thumbnail.Startup())
	sources, err := filepath.Glob("../../cmd/photo-processor-render/warmup/*")
	require.NoError(t, err)
	require.Len(t, sources, 7)
	for _, format := range photo.Formats {
		t.Run(string(format), func(t *testing.T) {
			t.Parallel()
			options := renderer.Options{Boxes: []photo.Size{{Width: 12, Height: 12}, {Width: 20, Height: 20}}, Format: format}
			b := setup(t, renderer.Config{Options: options}, "")
			all := map[string][]byte{"a larger JPEG": small(t)}
			for _, path := range sources {
				content, err := os.ReadFile(path)
				require.NoError(t, err)
				all[filepath.Base(path)] = content
			}
			for name, source := range all {
				want, err := thumbnail.Make(source, thumbnail.Options(options))
				require.NoError(t, err, name)
				got, err := b.Render(t.Context(), source)
				require.NoError(t, err, name)
				require.Len(t, got, 2)
				for i := range want {
					require.Equal(t, photo.Picture(want[i]), got[i], name)
				}
			}
		})
	}
}

func TestFailuresComeThrough(t *testing.T) {
	t.Parallel()
	b := setup(t, renderer.Config{Options: renderer.Options{MaxPixels: 1000}}, "")
	_, err := b.Render(t.Context(), []byte("<svg/>"))
	requireCode(t, photo.UnsupportedImage, err)
	require.ErrorContains(t, err, "a photo must be one of JPEG, PNG")
	_, err = b.Render(t.Context(), small(t))
	requireCode(t, photo.ImageTooLarge, err)
	require.EqualError(t, err, "the picture has 272640 pixels (640x426); the limit is 1000")
	_, err = b.Render(t.Context(), small(t)[:500])
	requireCode(t, photo.CorruptImage, err)
	_, err = b.Render(t.Context(), nil)
	requireCode(t, photo.UnsupportedImage, err)
}

func TestTheSandbox(t *testing.T) {
	t.Parallel()
	onLinux(t)
	// A descriptor that children inherit, as one from a shell would be.
	secret, err := os.Create(filepath.Join(t.TempDir(), "secret"))
	require.NoError(t, err)
	defer secret.Close()
	inherited, err := syscall.Dup(int(secret.Fd())) // without close-on-exec
	require.NoError(t, err)
	defer syscall.Close(inherited)

	b := setup(t, renderer.Config{}, "")
	_, err = b.Render(t.Context(), small(t))
	require.NoError(t, err)
	sandbox := b.Sandbox()
	require.Equal(t, "on", sandbox.Seccomp)
	require.True(t, sandbox.NoNewPrivs)
	require.NotZero(t, sandbox.UID)
	require.Equal(t, int64(renderer.DefaultMaxMemory), sandbox.MaxMemory)
	require.Contains(t, b.log(), "renderer sandbox")

	pid := b.processes()[0]
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	require.NoError(t, err)
	for _, path := range threads {
		thread, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		require.NoError(t, err)
		require.Contains(t, string(thread), "Seccomp:\t2")
		require.Contains(t, string(thread), "NoNewPrivs:\t1")
		require.Contains(t, string(thread), "CapEff:\t0000000000000000")
		require.Contains(t, string(thread), "CapPrm:\t0000000000000000")
	}
	require.Contains(t, string(status), fmt.Sprintf("Uid:\t%d\t%[1]d\t%[1]d\t%[1]d\n", sandbox.UID))
	if os.Getuid() == 0 {
		require.Equal(t, 65534, sandbox.UID)
		require.Contains(t, string(status), "Groups:\t \n")
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	require.NoError(t, err)
	for _, limit := range []string{`Max file size             0                    0 `, `Max core file size        0                    0 `,
		fmt.Sprintf("Max data size             %d           %[1]d ", renderer.DefaultMaxMemory)} {
		require.Contains(t, string(limits), limit)
	}
	score, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
	require.NoError(t, err)
	require.Equal(t, "500\n", string(score))

	require.Equal(t, "10", stat(pid)[16], "nice: the API's answers come first")

	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	require.NoError(t, err)
	for _, variable := range strings.Split(strings.Trim(string(environ), "\x00"), "\x00") {
		require.Regexp(t, `^MALLOC_[A-Z_]+=\d+$`, variable)
	}
	descriptors, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	require.NoError(t, err)
	for _, d := range descriptors {
		target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, d.Name()))
		require.NoError(t, err)
		want := `^anon_inode:\[event(poll|fd)\]$` // the Go runtime's
		if n, _ := strconv.Atoi(d.Name()); n <= 2 {
			want = `^pipe:`
		}
		require.Regexp(t, want, target)
	}
	if sandbox.Namespaces == "net, ipc, uts" {
		for _, kind := range []string{"net", "ipc", "uts"} {
			ours, err := os.Readlink("/proc/self/ns/" + kind)
			require.NoError(t, err)
			theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
			require.NoError(t, err)
			require.NotEqual(t, ours, theirs, kind)
		}
	}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	require.NoError(t, err)
	require.Contains(t, string(maps), "libvips")
	for _, code := range regexp.MustCompile(`(?m)^\S+ .wx.*$`).FindAllString(string(maps), -1) {
		require.Regexp(t, `^\S+ rwxp 0+ 00:00 0\s*$`, code, "Orc's is of no file, and shared with nobody")
	}
}

// TestACrashIsThePicturesAlone kills one of two processes in the middle of a
// picture.
func TestACrashIsThePicturesAlone(t *testing.T) {
	t.Parallel()
	onLinux(t)
	for name, signal := range map[string]syscall.Signal{"by itself": syscall.SIGSEGV, "by the kernel": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := roomForLarge()
			c.Concurrency = 2
			b := setup(t, c, "")
			before := b.work()
			require.Len(t, before, 2)
			about := telemetry.WithAttrs(t.Context(), slog.String("photo", "the one"))
			first, second := b.render(about, large(t)), b.render(about, large(t))
			b.awaitWork(t, before)
			victim := b.processes()[0]
			require.NoError(t, syscall.Kill(victim, signal))

			var crashed, made int
			for _, o := range []outcome{<-first, <-second} {
				if o.err != nil {
					requireCode(t, photo.RenderCrashed, o.err)
					crashed++
				} else {
					require.Len(t, o.pictures, 1)
					made++
				}
			}
			require.Equal(t, 1, crashed)
			require.Equal(t, 1, made)
			await(t, "a new process takes its place", func() bool { return len(b.processes()) == 2 && stat(victim) == nil })
			_, err := b.Render(t.Context(), small(t))
			require.NoError(t, err)
			b.Close()
			require.Contains(t, b.log(), "a renderer died of a picture")
			for line := range strings.Lines(b.log()) {
				if strings.Contains(line, "a renderer died of a picture") || strings.Contains(line, "a renderer says") {
					require.Contains(t, line, `photo="the one"`)
				}
			}
		})
	}
}

func TestWaitingPicturesAreCounted(t *testing.T) {
	t.Parallel()
	onLinux(t)
	b := setup(t, renderer.Config{}, "")
	require.Zero(t, b.Waiting())
	require.NoError(t, b.Ready())
	pid := b.processes()[0]
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	var all []<-chan outcome
	for range 3 {
		all = append(all, b.render(t.Context(), small(t)))
	}
	await(t, "one is taken", func() bool { return b.Waiting() == 2 })
	require.NoError(t, syscall.Kill(pid, syscall.SIGCONT))
	for _, done := range all {
		require.NoError(t, (<-done).err)
	}
	require.Zero(t, b.Waiting())
	b.Close()
	require.Error(t, b.Ready())
}

// TestADeathInIdlenessIsNobodysFault has processes die that wait for a picture.
func TestADeathInIdlenessIsNobodysFault(t *testing.T) {
	t.Parallel()
	onLinux(t)
	b := setup(t, renderer.Config{}, "")
	for range 3 {
		await(t, "a process", func() bool { return len(b.processes()) == 1 })
		victim := b.processes()[0]
		require.NoError(t, syscall.Kill(victim, syscall.SIGKILL))
		await(t, "it is gone", func() bool { return stat(victim) == nil })
		_, err := b.Render(t.Context(), small(t))
		require.NoError(t, err)
	}
}

// TestAPictureThatHangs stops one of two processes; each gets a picture at
// least, because the one that has waited longer gets the next.
func TestAPictureThatHangs(t *testing.T) {
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
	await(t, "it is gone", func() bool { return stat(victim) == nil })
	await(t, "a new process takes its place", func() bool { return len(b.processes()) == 2 })
}

func TestAPictureThatTakesTooMuchMemory(t *testing.T) {
	t.Parallel()
	c := roomForLarge()
	c.MaxMemory = 500_000_000
	b := setup(t, c, "")
	_, err := b.Render(t.Context(), large(t))
	requireCode(t, photo.ImageTooLarge, err)
	require.ErrorContains(t, err, "RENDER_MAX_MEMORY")

	// Of what Go's runtime must have for it.
	_, err = b.Render(t.Context(), make([]byte, 500<<20))
	requireCode(t, photo.ImageTooLarge, err)

	_, err = b.Render(t.Context(), small(t))
	require.NoError(t, err)
}

func TestCancellingKillsAtOnce(t *testing.T) {
	t.Parallel()
	onLinux(t)
	c := roomForLarge()
	c.Concurrency = 2
	b := setup(t, c, "")
	before := b.work()
	ctx, cancel := context.WithCancel(t.Context())
	canceled, other := b.render(ctx, large(t)), b.render(t.Context(), large(t))
	b.awaitWork(t, before)
	cancel()
	require.ErrorIs(t, (<-canceled).err, context.Canceled)
	require.NoError(t, (<-other).err)
	gone := func() (n int) {
		for pid := range before {
			if stat(pid) == nil {
				n++
			}
		}
		return n
	}
	await(t, "it was not left to finish", func() bool { return gone() == 1 })

	_, err := b.Render(ctx, small(t))
	require.ErrorIs(t, err, context.Canceled, "it is not begun")
}

func TestClosing(t *testing.T) {
	t.Parallel()
	onLinux(t)
	b := setup(t, roomForLarge(), "")
	before := b.work()
	rendering := b.render(t.Context(), large(t))
	b.awaitWork(t, before)
	waiting := b.render(t.Context(), small(t))
	b.Close()
	require.Empty(t, b.processes())
	require.ErrorIs(t, (<-rendering).err, renderer.ErrClosed)
	require.ErrorIs(t, (<-waiting).err, renderer.ErrClosed)
	_, err := b.Render(t.Context(), small(t))
	require.ErrorIs(t, err, renderer.ErrClosed)
	b.Close() // once more is no mistake
}

func TestAProcessIsReplacedAfterItsShare(t *testing.T) {
	t.Parallel()
	onLinux(t)
	b := setup(t, renderer.Config{MaxPictures: 2}, "")
	seen := map[int]int{}
	for range 5 {
		_, err := b.Render(t.Context(), small(t))
		require.NoError(t, err)
		// Before the next picture is given out there may be none, or two.
		await(t, "one process", func() bool { return len(b.processes()) == 1 })
		seen[b.processes()[0]]++
	}
	require.GreaterOrEqual(t, len(seen), 3)
}

// TestAProcessThatSwellsIsReplaced has each picture leave behind more than may be
// kept: the process that has it never answers a second time.
func TestAProcessThatSwellsIsReplaced(t *testing.T) {
	t.Parallel()
	onLinux(t)
	b := setup(t, renderer.Config{}, "swells")
	for range 2 {
		_, err := b.Render(t.Context(), small(t))
		require.NoError(t, err)
	}
}

func TestManyPicturesAtATime(t *testing.T) {
	t.Parallel()
	b := setup(t, renderer.Config{Concurrency: 2, MaxPictures: 10}, "")
	source := small(t)
	var all []<-chan outcome
	for range 60 {
		all = append(all, b.render(t.Context(), source))
	}
	for _, done := range all {
		o := <-done
		require.NoError(t, o.err)
		require.Len(t, o.pictures, 1)
		decoded, err := jpeg.DecodeConfig(bytes.NewReader(o.pictures[0].Bytes))
		require.NoError(t, err)
		require.Equal(t, o.pictures[0].Size, photo.Size{Width: decoded.Width, Height: decoded.Height})
	}
}

func TestTheProgramIsMissing(t *testing.T) {
	t.Parallel()
	t.Run("at the start", func(t *testing.T) {
		t.Parallel()
		missing := filepath.Join(t.TempDir(), "photo-processor-render")
		_, err := renderer.New(renderer.Config{Options: renderer.Options{Boxes: []photo.Size{box}}, Path: missing})
		require.ErrorContains(t, err, missing)
		_, err = renderer.Find(missing)
		require.ErrorContains(t, err, "RENDERER_PATH")
		_, err = renderer.Find("")
		require.ErrorContains(t, err, "photo-processor-render must lie next to renderer.test")
	})
	t.Run("no such program as that", func(t *testing.T) {
		t.Parallel()
		_, err := renderer.New(renderer.Config{Options: renderer.Options{Boxes: []photo.Size{box}}, Path: "/bin/true"})
		require.ErrorContains(t, err, "/bin/true does not start")
	})
	t.Run("later, and back again", func(t *testing.T) {
		t.Parallel()
		onLinux(t)
		b := setup(t, renderer.Config{}, "")
		real, err := os.Readlink(b.config.Path)
		require.NoError(t, err)
		require.NoError(t, os.Remove(b.config.Path))
		victim := b.processes()[0]
		require.NoError(t, syscall.Kill(victim, syscall.SIGKILL))
		// A dying process loses its command line before its pipes close, so
		// only a reaped one cannot accept a source any more.
		await(t, "the process is reaped", func() bool { return stat(victim) == nil })
		done := b.render(t.Context(), small(t))
		await(t, "it is tried in vain", func() bool { return strings.Count(b.log(), "does not start") >= 3 })
		require.NoError(t, os.Symlink(real, b.config.Path))
		require.NoError(t, (<-done).err, "the photo has waited")
	})
}

// TestNobodySurvivesTheWorker kills a worker with two processes, one of which
// can do nothing about it.
func TestNobodySurvivesTheWorker(t *testing.T) {
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
	await(t, "they are gone", func() bool { return len(b.processes()) == 0 })
}
