package devstack

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// fakeProgram creates a shell script.
func fakeProgram(t *testing.T, path, script string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755))
}

func TestInstall(t *testing.T) {
	cache, path := t.TempDir(), t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	t.Setenv("PATH", path+":/bin:/usr/bin")
	program := GoProgram{Name: "temporal", Package: "example.com/cmd/cli", Version: "v1.2.3", Takes: "3 to 5 minutes"}
	dir := filepath.Join(cache, "photo-processor", "temporal-v1.2.3")

	t.Run("says that it takes long, and leaves nothing half done", func(t *testing.T) {
		fakeProgram(t, filepath.Join(path, "go"), `mkdir -p "$GOBIN"; echo half >"$GOBIN/cli"; echo no network; exit 1`)
		var progress bytes.Buffer
		_, err := program.Install(testContext(t), &progress)
		require.ErrorContains(t, err, "install temporal v1.2.3: ")
		require.ErrorContains(t, err, "no network")
		require.Contains(t, progress.String(), "takes 3 to 5 minutes")
		require.NoFileExists(t, filepath.Join(dir, "temporal"))
	})
	t.Run("builds once, however many ask", func(t *testing.T) {
		fakeProgram(t, filepath.Join(path, "go"), `mkdir -p "$GOBIN"; echo "$@" >"$GOBIN/cli"`)
		var progress syncBuffer
		var group errgroup.Group
		for range 4 {
			group.Go(func() error {
				_, err := program.Install(testContext(t), &progress)
				return err
			})
		}
		require.NoError(t, group.Wait())
		require.Equal(t, 1, strings.Count(progress.String(), "Building"))
		require.Equal(t, "install -ldflags=-s -w  example.com/cmd/cli@v1.2.3\n", readFile(t, filepath.Join(dir, "temporal")))
		left, err := filepath.Glob(filepath.Join(dir, "[^.]*"))
		require.NoError(t, err)
		require.Equal(t, []string{filepath.Join(dir, "temporal")}, left)
	})
}

// syncBuffer is a buffer that several goroutines may write to.
type syncBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

func TestTemporalCLI(t *testing.T) {
	cache, path := t.TempDir(), t.TempDir()
	t.Setenv("TEMPORAL_CLI", "")
	t.Setenv("XDG_CACHE_HOME", cache)
	t.Setenv("PATH", path)
	built := filepath.Join(cache, "photo-processor", "temporal-"+temporalCLIVersion, "temporal")
	require.NoError(t, os.MkdirAll(filepath.Dir(built), 0o755))
	fakeProgram(t, built, "")
	inPath := filepath.Join(path, "temporal")

	for version, want := range map[string]string{
		"1.5.1": inPath, "1.6.0": inPath, "1.10.2": inPath,
		"1.5.0": built, "0.13.2": built, "2.0.0": built, "": built,
	} {
		fakeProgram(t, inPath, "echo temporal version "+version+" '(Server 1.29.1, UI 2.42.1)'")
		if version == "" {
			fakeProgram(t, inPath, "exit 1")
		}
		cli, err := TemporalCLI(testContext(t), io.Discard)
		require.NoError(t, err)
		require.Equal(t, want, cli, version)
	}

	program := filepath.Join(t.TempDir(), "mine")
	t.Setenv("TEMPORAL_CLI", program)
	_, err := TemporalCLI(testContext(t), io.Discard)
	require.ErrorContains(t, err, "TEMPORAL_CLI: ")
	fakeProgram(t, program, "")
	cli, err := TemporalCLI(testContext(t), io.Discard)
	require.NoError(t, err)
	require.Equal(t, program, cli)
}
