package devstack

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNewDir(t *testing.T) {
	cwd, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	t.Chdir(cwd)

	dir, err := NewDir("relative/place")
	require.NoError(t, err)
	require.Equal(t, filepath.Join(cwd, "relative/place"), dir.Root)

	dir, err = NewDir("")
	require.NoError(t, err)
	if os.Geteuid() == 0 {
		require.Regexp(t, `^/var/lib/photo-processor/001-[0-9a-f]{8}$`, dir.Root)
	} else {
		require.Equal(t, filepath.Join(cwd, ".data"), dir.Root)
	}

	t.Run("is the same by whatever name the directory was entered", func(t *testing.T) {
		link := filepath.Join(t.TempDir(), "link")
		require.NoError(t, os.Symlink(cwd, link))
		t.Chdir(link)
		linked, err := NewDir("")
		require.NoError(t, err)
		require.Equal(t, dir, linked)
	})
}

func TestRootsDataDir(t *testing.T) {
	long := strings.Repeat("long", 50)
	for _, name := range []string{"checkout", "my ph,t s", long} {
		cwd := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.Mkdir(cwd, 0o755))
		t.Chdir(cwd)
		root, err := rootsDataDir()
		require.NoError(t, err)
		require.Regexp(t, `^/var/lib/photo-processor/(checkout|my_ph_t_s|(long){6})-[0-9a-f]{8}$`, root)
		require.NoError(t, checkSocketPath(Postgres{Dir: Dir{Root: root}}.socket()))
	}
}

func TestDirCreate(t *testing.T) {
	t.Parallel()
	dir := newTestDir(t)
	require.NoError(t, dir.Create(), "it exists already")
	info, err := os.Stat(dir.Root)
	require.NoError(t, err)
	if os.Geteuid() == 0 {
		require.Equal(t, os.FileMode(0o710), info.Mode().Perm())
	} else {
		require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	}
}

// TestDirRestrict is not parallel, because the umask is the whole process's.
func TestDirRestrict(t *testing.T) {
	before := syscall.Umask(0o022)
	t.Cleanup(func() { syscall.Umask(before) })
	root := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.Mkdir(root, 0o755))
	dir := Dir{Root: root}
	outside := filepath.Join(t.TempDir(), "outside")
	require.NoError(t, os.WriteFile(outside, nil, 0o644))
	require.NoError(t, os.Symlink(outside, dir.Samples()))
	for _, name := range []string{"thumbnails", "logs", "pids", "postgres", "sock", "someone's"} {
		require.NoError(t, os.Mkdir(filepath.Join(root, name), 0o755))
	}
	for _, name := range []string{"logs/api.log", temporalDB, temporalDB + "-wal", "state.json"} {
		require.NoError(t, os.WriteFile(filepath.Join(root, name), nil, 0o644))
	}

	require.NoError(t, dir.Restrict())
	child := Process{Name: "child", Path: "/bin/sh", Args: []string{"-c", "mkdir new && touch file"}, Dir: root, LogFile: dir.Log("new"), PIDFile: dir.PIDFile("new")}
	started, err := child.Start(t.Context())
	require.NoError(t, err)
	<-started.Done()
	for name, want := range map[string]os.FileMode{
		"thumbnails": 0o700, "logs": 0o700, "pids": 0o700, temporalDB: 0o600, temporalDB + "-wal": 0o600, "state.json": 0o600,
		"new": 0o700, "file": 0o600, "logs/new.log": 0o600,
		"postgres": 0o755, "sock": 0o755, "someone's": 0o755, ".": 0o755,
	} {
		info, err := os.Stat(filepath.Join(root, name))
		require.NoError(t, err)
		require.Equal(t, want, info.Mode().Perm(), name)
	}
	info, err := os.Stat(outside)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o644), info.Mode().Perm())
}

func TestSocketPath(t *testing.T) {
	t.Parallel()
	suffix := len(Postgres{}.socket())
	longest := Dir{Root: "/" + strings.Repeat("d", maxSocketPathBytes-suffix-2)}
	require.Len(t, Postgres{Dir: longest}.socket(), maxSocketPathBytes)
	require.NoError(t, checkSocketPath(Postgres{Dir: longest}.socket()))

	tooLong := Dir{Root: longest.Root + "d"}
	_, err := Postgres{Dir: tooLong}.Process()
	require.ErrorContains(t, err, "DATA_DIR")
	require.ErrorContains(t, err, tooLong.Root)
	require.ErrorContains(t, err, "is 108 bytes long and may have 107 at most")
}
