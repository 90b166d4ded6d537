package devstack

import (
	"bytes"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	temporalconfig "github.com/photo-processor/photo-processor/temporal-config"
)

func TestDynamicConfigFlags(t *testing.T) {
	t.Parallel()
	flags, err := dynamicConfigFlags([]byte(`
# Comments are for people.
matching.rps:
  - value: 1200
system.name:
  - value: a "b"
    constraints: {}
history.enabled:
  - value: true
`))
	require.NoError(t, err)
	require.Equal(t, []string{
		"--dynamic-config-value", `history.enabled=true`,
		"--dynamic-config-value", `matching.rps=1200`,
		"--dynamic-config-value", `system.name="a \"b\""`,
	}, flags)

	for name, file := range map[string]string{
		"no YAML":     "a: [",
		"no list":     "matching.rps: 1200",
		"no value":    "matching.rps: []",
		"two values":  "matching.rps: [{value: 1}, {value: 2}]",
		"constraints": "matching.rps: [{value: 1, constraints: {namespace: other}}]",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := dynamicConfigFlags([]byte(file))
			require.ErrorContains(t, err, "dynamic configuration: ")
		})
	}
}

// TestDynamicConfigKeys checks that every key occurs in the server's program,
// which silently ignores unknown keys.
func TestDynamicConfigKeys(t *testing.T) {
	t.Parallel()
	file, err := os.Open(testCLI(t))
	require.NoError(t, err)
	defer file.Close()
	info, err := file.Stat()
	require.NoError(t, err)
	// Mapped, because it has 200 MB.
	program, err := syscall.Mmap(int(file.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	require.NoError(t, err)
	defer func() { require.NoError(t, syscall.Munmap(program)) }()
	flags, err := dynamicConfigFlags(temporalconfig.DynamicConfig)
	require.NoError(t, err)
	require.NotEmpty(t, flags)
	for _, flag := range flags {
		if key, _, isSetting := strings.Cut(flag, "="); isSetting {
			require.True(t, bytes.Contains(program, []byte(key)), key)
		}
	}
}
