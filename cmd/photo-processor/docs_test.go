package main_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDependenciesAreExplained compares docs/dependencies.md with go.mod.
func TestDependenciesAreExplained(t *testing.T) {
	t.Parallel()
	gomod, err := os.ReadFile("../../go.mod")
	require.NoError(t, err)
	explained, err := os.ReadFile("../../docs/dependencies.md")
	require.NoError(t, err)
	direct := regexp.MustCompile(`(?m)^\t(\S+) v\S+$`).FindAllSubmatch(gomod, -1)
	require.NotEmpty(t, direct)
	for _, module := range direct {
		require.Contains(t, string(explained), "| `"+string(module[1])+"` |")
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z0-9.]+/[^` ]+)` \\|").FindAllSubmatch(explained, -1) {
		if string(row[1]) != "github.com/temporalio/cli" && !regexp.MustCompile(`/cmd/|/tools/`).Match(row[1]) {
			require.Contains(t, string(gomod), "\t"+string(row[1])+" v", "it is no longer used")
		}
	}
}

// TestMakeFuzzRunsAll compares the targets of make fuzz with the fuzz tests.
func TestMakeFuzzRunsAll(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile("../../Makefile")
	require.NoError(t, err)
	found := 0
	require.NoError(t, filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && path != "../.." {
			return fs.SkipDir
		}
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, name := range regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`).FindAllSubmatch(text, -1) {
			found++
			require.Contains(t, string(makefile), " -fuzz "+string(name[1])+" ", path)
		}
		return err
	}))
	require.NotZero(t, found)
}
