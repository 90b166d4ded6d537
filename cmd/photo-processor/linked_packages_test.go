package main_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestLinkedPackages checks that the program with the passwords and the network does
// not link libvips or the development stack, and that the render program links
// neither configuration nor network code.
func TestLinkedPackages(t *testing.T) {
	t.Parallel()
	const module = "github.com/photo-processor/photo-processor"
	dependencies := func(program string) (all []string, withC []string) {
		list := exec.Command("go", "list", "-deps", "-json=ImportPath,CgoFiles,Standard", program)
		output, err := list.Output()
		require.NoError(t, err)
		for decoder := json.NewDecoder(strings.NewReader(string(output))); ; {
			var p struct {
				ImportPath string
				CgoFiles   []string
				Standard   bool
			}
			err := decoder.Decode(&p)
			if errors.Is(err, io.EOF) {
				return all, withC
			}
			require.NoError(t, err)
			all = append(all, p.ImportPath)
			if len(p.CgoFiles) > 0 && !p.Standard {
				withC = append(withC, p.ImportPath)
			}
		}
	}
	all, withC := dependencies(module + "/cmd/photo-processor")
	require.Empty(t, withC, "C in the worker and the API")
	for _, unwanted := range []string{
		"github.com/davidbyttow/govips/v2/vips", module + "/internal/thumbnail", module + "/internal/devstack", module + "/internal/samples",
	} {
		require.NotContains(t, all, unwanted)
	}

	all, _ = dependencies(module + "/cmd/photo-processor-render")
	require.Contains(t, all, "github.com/davidbyttow/govips/v2/vips")
	for _, unwanted := range []string{"net/http", module + "/internal/postgres", module + "/internal/source", module + "/internal/config"} {
		require.NotContains(t, all, unwanted)
	}
}
