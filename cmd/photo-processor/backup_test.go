package main_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/samples"
)

// runBackup runs docs/backup.sh for the native stack.
func (p *program) runBackup(t *testing.T, args ...string) (output string, exitCode int) {
	t.Helper()
	return p.runProgram(t, repository+"/docs/backup.sh", args)
}

// TestBackup makes a backup of `make start`'s stack in the middle of a batch and
// restores it after the batch: all photos of the backup are completed, and each
// row has its file.
func TestBackup(t *testing.T) {
	p := build(t)
	p.env = append(p.env, "DEV="+p.path+"-dev", "FORCE=", "RECONCILE_INTERVAL=10s", "RENDER_CONCURRENCY=1")
	dir := filepath.Join(filepath.Dir(p.dir), "backup")

	out, code := p.runBackup(t, "backup", "native", dir)
	require.Equal(t, 1, code)
	require.Contains(t, out, "does not run; start it first")
	require.NoDirExists(t, dir)

	t.Cleanup(func() { p.stop() })
	p.mustDev(t, "start")
	state := regexp.MustCompile(`sample photos +(\S+)`).FindStringSubmatch(p.mustDev(t, "status"))
	urls := func(first, n int) (urls []string) {
		for seed := first; seed < first+n; seed++ {
			urls = append(urls, samples.GeneratedURL(state[1], uint64(seed), photo.Size{Width: 1200, Height: 900}))
		}
		return urls
	}

	const photos = 60
	ids := p.add(t, urls(0, photos)...)
	require.Eventually(t, func() bool { return p.count(t, photo.Completed) > 5 }, time.Minute, 20*time.Millisecond)
	out, code = p.runBackup(t, "backup", "native", dir)
	require.Zero(t, code)
	require.Contains(t, out, "is complete")
	require.NotContains(t, out, "lacks")
	dumped, err := os.ReadFile(filepath.Join(dir, "photos.sql"))
	require.NoError(t, err)
	require.Regexp(t, `\t(pending|processing)\t`, string(dumped), "the batch was not in progress")
	p.awaitCompleted(t, ids)
	later := p.add(t, urls(photos, 10)...)
	p.awaitCompleted(t, later)

	for _, refused := range []struct{ name, args, message string }{
		{"without FORCE", "restore native " + dir, "FORCE=1 skips the question"},
		{"a directory that is not empty", "backup native " + dir, "is not empty"},
		{"an incomplete backup", "restore native " + t.TempDir(), "is not a complete backup"},
		{"another stack", "restore elsewhere " + dir, "must be native or compose"},
		{"no directory", "backup native", "usage: "},
	} {
		out, code = p.runBackup(t, strings.Fields(refused.args)...)
		require.Equal(t, 1, code, refused.name)
		require.Contains(t, out, refused.message, refused.name)
	}
	p.env = append(p.env, "FORCE=1")
	damage(t, filepath.Join(dir, "photos.sql"), func() {
		out, code = p.runBackup(t, "restore", "native", dir)
		require.Equal(t, 1, code)
		require.Contains(t, out, "is damaged; nothing has changed")
	})
	require.Equal(t, photos+10, p.count(t, photo.Completed), "a refused restore changes nothing")

	out, code = p.runBackup(t, "restore", "native", dir)
	require.Zero(t, code)
	require.Contains(t, out, "photo-processor process --all-pending --watch")
	p.must(t, "process", "--all-pending", "--watch")
	p.awaitCompleted(t, ids)
	for _, id := range ids {
		p.requireThumbnails(t, p.photo(t, id))
	}
	for _, id := range later {
		status, _ := get(t, fmt.Sprintf("%s/photos/%s", p.api, id))
		require.Equal(t, http.StatusNotFound, status, "it was added after the backup")
	}
	require.Equal(t, 2*photos, p.files(t, "thumbnails"))
}

// damage appends a byte to the file while test runs.
func damage(t *testing.T, path string, test func()) {
	t.Helper()
	healthy, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, append(healthy[:len(healthy):len(healthy)], '\n'), 0o600))
	test()
	require.NoError(t, os.WriteFile(path, healthy, 0o600))
}
