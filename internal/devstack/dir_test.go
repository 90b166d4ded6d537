package devstack

import (
	"os"
	"path/filepath"
	"strings"
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
