package devstack

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTemporalCLIFromEnv(t *testing.T) {
	program := filepath.Join(t.TempDir(), "temporal")
	t.Setenv("TEMPORAL_CLI", program)
	_, err := TemporalCLI(testContext(t), io.Discard)
	require.ErrorContains(t, err, "TEMPORAL_CLI: ")

	require.NoError(t, os.WriteFile(program, nil, 0o755))
	cli, err := TemporalCLI(testContext(t), io.Discard)
	require.NoError(t, err)
	require.Equal(t, program, cli)
}
