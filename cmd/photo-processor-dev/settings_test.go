package main

import (
	"fmt"
	"os"
	"testing"

	"github.com/caarlos0/env/v11"
	"github.com/stretchr/testify/require"
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
