package devstack

import (
	"compress/gzip"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestLogIsBounded has a process that writes three times the largest size, and
// is then restarted.
func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	dir := newTestDir(t)
	supervisor := newTestSupervisor(t)
	flood := shell(dir, "flood", `echo first; yes "a line of a log" | head -c 31457280; echo ready; while :; do sleep 60; done`)
	flood.Ready = nil
	require.NoError(t, supervisor.Start(testContext(t), flood))

	logs := filepath.Dir(dir.Log("flood"))
	compressed := func() []string {
		files, err := filepath.Glob(filepath.Join(logs, "flood-*.log.gz"))
		require.NoError(t, err)
		return files
	}
	eventually(t, func() bool { return len(compressed()) == 3 }, "the log is not divided into three full files and a new one")
	eventually(t, func() bool { return strings.HasSuffix(readFile(t, dir.Log("flood")), "\nready\n") }, "the end is missing")
	var kept int64
	entries, err := os.ReadDir(logs)
	require.NoError(t, err)
	for _, entry := range entries {
		info, err := entry.Info()
		require.NoError(t, err)
		require.LessOrEqual(t, info.Size(), int64(maxLogMiB<<20), entry.Name())
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), entry.Name())
		kept += info.Size()
	}
	require.Less(t, kept, int64(2*maxLogMiB<<20))

	file, err := os.Open(compressed()[0])
	require.NoError(t, err)
	defer file.Close()
	reader, err := gzip.NewReader(file)
	require.NoError(t, err)
	text, err := io.ReadAll(reader)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(text), "first\na line of a log\n"))
}

// TestLogOnAFullDisk writes more than a pipe holds.
func TestLogOnAFullDisk(t *testing.T) {
	t.Parallel()
	dir := newTestDir(t)
	process := shell(dir, "writer", `yes "a line of a log" | head -c 1000000 || exit 1; echo done >`+dir.Root+`/done; while :; do sleep 60 & wait $!; done`)
	process.LogFile = "/dev/full"
	process.Ready = func(context.Context) error { _, err := os.Stat(dir.Root + "/done"); return err }
	child := start(t, process)
	require.True(t, isRunning(child.PID()))
}

func TestQuote(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "server.log")
	require.NoError(t, os.WriteFile(path, []byte("earlier\n"), 0o600))
	log := newProcessLog(path)
	defer log.close()
	write := func(text string) {
		_, err := log.Write([]byte(text))
		require.NoError(t, err)
	}
	require.Equal(t, "; it wrote nothing to "+path, log.quote())
	write("two\nlines\n")
	require.Equal(t, "; the end of "+path+":\n\ttwo\n\tlines", log.quote())
	require.Equal(t, "earlier\ntwo\nlines\n", readFile(t, path))
	write(strings.Repeat("x", 10*maxQuotedBytes))
	require.Less(t, len(log.quote()), 2*maxQuotedBytes)
	log.begin()
	require.Equal(t, "; it wrote nothing to "+path, log.quote())
}

func TestSupervisorLog(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "logs", "dev.log")
	for _, text := range []string{"first", "second", "third"} {
		log, err := createSupervisorLog(path)
		require.NoError(t, err)
		_, err = log.WriteString(text)
		require.NoError(t, err)
		require.NoError(t, log.Close())
	}
	require.Equal(t, "third", readFile(t, path))
	require.Equal(t, "second", readFile(t, path+".1"))
}
