// Package renderertest starts the real renderer for tests: sandboxed processes
// of photo-processor-render, built from this source.
package renderertest

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gofrs/flock"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/renderer"
)

// Path builds photo-processor-render and returns its path.
func Path(t testing.TB) string {
	t.Helper()
	path, err := build()
	require.NoError(t, err)
	return path
}

// build builds the program once per test process. The program is kept in the
// user's cache directory, one for each source tree, so that go build usually
// finds it up to date.
var build = sync.OnceValues(func() (string, error) {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("go list: %w", err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	tree := fmt.Sprintf("%x", sha256.Sum256(root))[:12]
	dir := filepath.Join(cache, "photo-processor", "test", tree)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	lock := flock.New(filepath.Join(dir, "lock")) // tests of other packages run concurrently
	if err := lock.Lock(); err != nil {
		return "", err
	}
	defer func() { _ = lock.Unlock() }()
	path := filepath.Join(dir, "photo-processor-render")
	built := exec.Command("go", "build", "-o", path, "./cmd/photo-processor-render")
	built.Dir = strings.TrimSpace(string(root))
	if output, err := built.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, output)
	}
	return path, nil
})

// New starts a renderer and closes it when the test ends. Unset fields of the
// configuration have the product's defaults; Log defaults to the test's output.
func New(t testing.TB, c renderer.Config) *renderer.Renderer {
	t.Helper()
	if c.Path == "" {
		c.Path = Path(t)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	r, err := renderer.New(c)
	require.NoError(t, err)
	t.Cleanup(r.Close)
	return r
}
