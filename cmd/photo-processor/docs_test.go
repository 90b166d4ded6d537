package main_test

import (
	"os"
	"regexp"
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
