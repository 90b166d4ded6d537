package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/caarlos0/env/v11"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/devstack"
)

// TestSettingsAreDocumented compares docs/configuration.md with settings.
func TestSettingsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/configuration.md")
	require.NoError(t, err)
	params, err := env.GetFieldParams(&settings{})
	require.NoError(t, err)
	for _, p := range params {
		if p.HasDefaultValue { // DATA_DIR is the product's, too
			require.Contains(t, string(page), fmt.Sprintf("| `%s` | `%s` |", p.Key, p.DefaultValue))
		}
	}
}

// TestEnvIsQuotedForTheShell evaluates the output of "env" as the Makefile does,
// with a value that would run a command. It is not parallel, because it sets
// variables.
func TestEnvIsQuotedForTheShell(t *testing.T) {
	const hostile = "/a b/it's '$(echo ran)' `echo ran`; echo ran \"$HOME\" \\ \\' * \n# end'"
	for _, name := range stackVariables {
		t.Run(name, func(t *testing.T) {
			for _, name := range stackVariables {
				t.Setenv(name, "")
			}
			t.Setenv(name, hostile)
			t.Setenv("METRICS_ADDR", "127.0.0.1:9090")
			var printed bytes.Buffer
			require.NoError(t, writeEnv(t.Context(), &printed, io.Discard, stoppedStack(t)))
			command := exec.CommandContext(t.Context(), "sh", "-c", `eval "$1" && printf %s "$`+name+`" && test "$(env | grep -c "^`+name+`=")" = 1`, "sh", printed.String())
			command.Env = []string{"PATH=" + os.Getenv("PATH")}
			output, err := command.CombinedOutput()
			require.NoError(t, err, "%s", output)
			require.Equal(t, hostile, string(output))
		})
	}
}

// stoppedStack returns a stack in an empty directory.
func stoppedStack(t *testing.T) *stack {
	t.Helper()
	dir, err := devstack.NewDir(t.TempDir())
	require.NoError(t, err)
	return &stack{dir: dir}
}

func TestEnvOfAStoppedStack(t *testing.T) {
	t.Setenv("METRICS_ADDR", "")
	var printed, notes bytes.Buffer
	require.NoError(t, writeEnv(t.Context(), &printed, &notes, stoppedStack(t)))
	require.Contains(t, notes.String(), "is not running")
	require.NotContains(t, printed.String(), "is not running")
	require.NotContains(t, printed.String(), "METRICS_ADDR")
	t.Setenv("METRICS_ADDR", "127.0.0.1:9090")
	require.NoError(t, writeEnv(t.Context(), &printed, &notes, stoppedStack(t)))
	require.Contains(t, printed.String(), "export METRICS_ADDR=''\n")
}
