package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/exitcode"
)

func TestWrongCommandLines(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{}, {"nonsense"}, {"help", "nonsense"}, {"--nonsense"}, {"--cluster"}, {"run", "x"}, {"start", "--nonsense"},
		{"stop", "--nonsense"}, {"status", "x"}, {"env", "x"}, {"db-schema", "x"}, {"samples", "x"}, {"samples", "--check=7"},
	} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, exitcode.Usage, exitcode.Run(t.Context(), newRoot(), args, &stdout, &stderr), "%q", args)
		require.Empty(t, stdout.String(), "%q", args)
		require.Regexp(t, `^photo-processor-dev: .+\nSee photo-processor-dev.* --help\.\n$`, stderr.String(), "%q", args)
	}
}
