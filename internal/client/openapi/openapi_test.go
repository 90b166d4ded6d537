package openapi_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGeneratedCodeIsCurrent runs the go:generate command of this package into
// a temporary file, and compares that with the committed one.
func TestGeneratedCodeIsCurrent(t *testing.T) {
	t.Parallel()
	const committed = "openapi.gen.go"
	source, err := os.ReadFile("generate.go")
	require.NoError(t, err)
	_, command, found := strings.Cut(string(source), "//go:generate ")
	require.True(t, found)
	args := strings.Fields(command)
	// go test caches a result until a file changes that the test itself opened.
	for _, input := range []string{args[len(args)-1], "config.yaml", "overlay.yaml"} {
		_, err := os.ReadFile(input)
		require.NoError(t, err)
	}

	generated := filepath.Join(t.TempDir(), committed)
	for i, arg := range args {
		if arg == committed {
			args[i] = generated
		}
	}
	require.Contains(t, args, generated)

	output, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput()
	require.NoError(t, err, string(output))
	want, err := os.ReadFile(generated)
	require.NoError(t, err)
	got, err := os.ReadFile(committed)
	require.NoError(t, err)
	if string(want) != string(got) {
		t.Fatalf("%s is not what api/openapi.yaml generates; run: make generate", committed)
	}
}
