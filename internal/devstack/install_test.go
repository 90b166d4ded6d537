package devstack

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

func TestInstall(t *testing.T) {
	t.Parallel()

	t.Run("builds once, however many ask", func(t *testing.T) {
		t.Parallel()
		dir := filepath.Join(t.TempDir(), "cli")
		require.NoError(t, os.MkdirAll(filepath.Join(dir, installPrefix+"killed", "half"), 0o755))
		var builds atomic.Int32
		var group errgroup.Group
		for range 4 {
			group.Go(func() error {
				cli, err := installedProgram{dir: dir, name: "temporal", build: func(_ context.Context, bin string) error {
					builds.Add(1)
					return os.WriteFile(filepath.Join(bin, "temporal"), []byte("built"), 0o755)
				}}.path(testContext(t), io.Discard)
				if err == nil && cli != filepath.Join(dir, "temporal") {
					err = errors.New(cli)
				}
				return err
			})
		}
		require.NoError(t, group.Wait())
		require.EqualValues(t, 1, builds.Load())
		require.Equal(t, "built", readFile(t, filepath.Join(dir, "temporal")))
		left, err := filepath.Glob(filepath.Join(dir, "[^.]*"))
		require.NoError(t, err)
		require.Equal(t, []string{filepath.Join(dir, "temporal")}, left)
	})

	t.Run("says that it takes long, and leaves nothing half done", func(t *testing.T) {
		t.Parallel()
		dir := filepath.Join(t.TempDir(), "cli")
		var progress bytes.Buffer
		failure := errors.New("no network")
		_, err := installedProgram{dir: dir, name: "temporal", takes: "3 to 5 minutes", build: func(_ context.Context, bin string) error {
			return errors.Join(os.WriteFile(filepath.Join(bin, "temporal"), []byte("half"), 0o755), failure)
		}}.path(testContext(t), &progress)
		require.ErrorIs(t, err, failure)
		require.Contains(t, progress.String(), "takes 3 to 5 minutes")
		left, err := filepath.Glob(filepath.Join(dir, "[^.]*"))
		require.NoError(t, err)
		require.Empty(t, left)
	})
}

func TestCacheDir(t *testing.T) {
	home, temp := t.TempDir(), t.TempDir()
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", home)
	t.Setenv("TMPDIR", temp)
	dir, err := cacheDir()
	require.NoError(t, err)
	require.Contains(t, dir, home)

	t.Setenv("HOME", "")
	dir, err = cacheDir()
	require.NoError(t, err)
	require.Equal(t, temp, filepath.Dir(dir))

	require.NoError(t, os.Chmod(dir, 0o777))
	_, err = cacheDir()
	require.ErrorContains(t, err, "is not ours alone")
}
