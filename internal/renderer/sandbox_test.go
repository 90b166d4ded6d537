package renderer_test

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/renderer"
	"github.com/photo-processor/photo-processor/internal/renderer/renderertest"
)

// TestEarlierPicturesAreCleared searches the memory of a process for a picture
// that it has rendered before others.
func TestEarlierPicturesAreCleared(t *testing.T) {
	t.Parallel()
	onLinux(t)
	if os.Getuid() != 0 {
		t.Skip("needs root, to read the memory of a process that is nobody's")
	}
	b := setup(t, renderer.Config{Options: renderer.Options{Boxes: []photo.Box{box}, Format: photo.PNG}}, "")
	// The source and the bitmap have this content; a thumbnail of this size is
	// not resized.
	marker := []byte("in the source: \xd8\x13\x9a")
	pixels := []byte("\xd7\x31\x8b\x42\xe9\x06\x5c\xa3\x1f\x94\x60\xcd") // four of three bytes
	img := image.NewNRGBA(image.Rect(0, 0, 300, 300))
	for i := range 300 * 300 {
		p := pixels[i%4*3:]
		img.SetNRGBA(i%300, i/300, color.NRGBA{p[0], p[1], p[2], 255})
	}
	const copies = 10_000
	var secret bytes.Buffer
	require.NoError(t, png.Encode(&secret, img))
	secret.Write(bytes.Repeat(marker, copies)) // decoders ignore what follows the end
	_, err := b.Render(t.Context(), secret.Bytes())
	require.NoError(t, err)
	for range 3 {
		_, err := b.Render(t.Context(), small(t))
		require.NoError(t, err)
	}

	pid := b.singleProcess(t)
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	require.NoError(t, err)
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	require.NoError(t, err)
	defer memory.Close()
	sources, bitmaps := 0, 0
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		var access string
		_, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &access)
		require.NoError(t, err)
		if !strings.HasPrefix(access, "rw") {
			continue
		}
		content := make([]byte, to-from)
		n, _ := memory.ReadAt(content, int64(from))
		sources += bytes.Count(content[:n], marker)
		bitmaps += bytes.Count(content[:n], pixels)
	}
	t.Logf("%d copies of the source, %d of pixels", sources, bitmaps)
	// Small buffers, which hold single rows and parts of the source, are not
	// cleared.
	require.Less(t, sources, copies/20, "copies of parts of the source")
	const perRow, rows = 300 / 4, 300
	require.Less(t, bitmaps, perRow*rows/5, "copies of pixels")
}

// TestNamespacesAtALimit has a worker whose kernel refuses namespaces for some
// time, because of a limit.
func TestNamespacesAtALimit(t *testing.T) {
	t.Parallel()
	onLinux(t)
	if os.Getuid() != 0 {
		t.Skip("needs root, to map users")
	}
	self, err := os.Executable()
	require.NoError(t, err)
	link := filepath.Join(t.TempDir(), "worker-at-a-limit")
	require.NoError(t, os.Symlink(self, link))
	users := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1 << 16}}
	worker := exec.Command(link)
	worker.Env = []string{"RENDERER_PATH=" + renderertest.Path(t)}
	worker.Stdin = bytes.NewReader(small(t))
	worker.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: users, GidMappings: users, GidMappingsEnableSetgroups: true}
	var log bytes.Buffer
	worker.Stderr = &log
	output, err := worker.Output()
	t.Log(log.String())
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	require.Len(t, lines, 3)
	require.Regexp(t, `^\[namespaces: none: no space left on device\] 0 [01]$`, lines[0])
	require.Regexp(t, `^\[\] [01] 0$`, lines[1], "the next process tries again")
	require.Contains(t, lines[2], "the sandbox is incomplete, and RENDER_SANDBOX is required: namespaces: no space left on device")
	require.Equal(t, 1, strings.Count(log.String(), "without namespaces"), "the warning is not repeated for each process")
}

func TestSandboxIsInForce(t *testing.T) {
	t.Parallel()
	onLinux(t)
	// A descriptor without close-on-exec, which children inherit.
	secret, err := os.Create(filepath.Join(t.TempDir(), "secret"))
	require.NoError(t, err)
	defer secret.Close()
	inherited, err := syscall.Dup(int(secret.Fd()))
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
			parent, err := os.Readlink("/proc/self/ns/" + kind)
			require.NoError(t, err)
			child, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
			require.NoError(t, err)
			require.NotEqual(t, parent, child, kind)
		}
	}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	require.NoError(t, err)
	require.Contains(t, string(maps), "libvips")
	for _, code := range regexp.MustCompile(`(?m)^\S+ .wx.*$`).FindAllString(string(maps), -1) {
		require.Regexp(t, `^\S+ rwxp 0+ 00:00 0\s*$`, code, "Orc's code is mapped from no file and not shared")
	}
}
