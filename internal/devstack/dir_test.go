package devstack

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDefaultDataDir(t *testing.T) {
	cwd, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	t.Chdir(cwd)

	t.Setenv("DATA_DIR", "relative/place")
	dir, err := DefaultDataDir()
	require.NoError(t, err)
	require.Equal(t, filepath.Join(cwd, "relative/place"), dir.Root)

	t.Setenv("DATA_DIR", "")
	dir, err = DefaultDataDir()
	require.NoError(t, err)
	if os.Geteuid() == 0 {
		require.Equal(t, filepath.Join(rootsDataDir, instanceName(cwd)), dir.Root)
	} else {
		require.Equal(t, filepath.Join(cwd, ".data"), dir.Root)
	}

	t.Run("is the same by whatever name the directory was entered", func(t *testing.T) {
		link := filepath.Join(t.TempDir(), "link")
		require.NoError(t, os.Symlink(cwd, link))
		t.Chdir(link)
		linked, err := DefaultDataDir()
		require.NoError(t, err)
		require.Equal(t, dir, linked)
	})
}

func TestInstanceName(t *testing.T) {
	t.Parallel()
	require.Regexp(t, `^checkout-[0-9a-f]{8}$`, instanceName("/srv/checkout"))
	require.Regexp(t, `^_-[0-9a-f]{8}$`, instanceName("/"))
	require.Regexp(t, `^my_ph_t_s-[0-9a-f]{8}$`, instanceName("/home/me/my ph,t s"))
	require.NotEqual(t, instanceName("/a/main"), instanceName("/b/main"))
	require.LessOrEqual(t, len(instanceName("/"+strings.Repeat("long", 100))), 33)

	// Whatever the name, root's default is short enough for a socket.
	dir := Dir{Root: filepath.Join(rootsDataDir, instanceName("/"+strings.Repeat("long", 100)))}
	require.NoError(t, checkSocketPath(Postgres{Dir: dir}.socket()))
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

	_, err = Postgres{Dir: Dir{Root: "/a,b"}}.Process()
	require.ErrorContains(t, err, "comma")
}

func TestCheckReachable(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root runs PostgreSQL as somebody else")
	}
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	closed := filepath.Join(filepath.Dir(newTestDir(t).Root), "closed")
	require.NoError(t, os.Mkdir(closed, 0o700))
	for _, path := range []string{closed, closed + "/below", closed + "/below/further"} {
		require.ErrorContains(t, checkReachable(path, nobody), "may not enter "+closed+" (mode 0700)")
		require.NoError(t, checkReachable(path, nil))
	}
	require.NoError(t, os.Chmod(closed, 0o711))
	require.NoError(t, checkReachable(closed+"/below", nobody))
	require.NoError(t, os.Chmod(closed, 0o710))
	require.Error(t, checkReachable(closed+"/below", nobody))
	require.NoError(t, os.Chown(closed, 0, 65534))
	require.NoError(t, checkReachable(closed+"/below", nobody))
}
