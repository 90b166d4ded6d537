package devstack

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
)

const (
	// temporalServerVersion is that of docker-compose's .env, too. The Go version of ours cannot build 1.32.2.
	temporalServerVersion = "1.32.1"

	// temporalUIVersion is that of docker-compose's .env, too, and the newest that the Go version of ours can build.
	temporalUIVersion = "2.55.0"
)

// TemporalPrograms are the paths of what a [TemporalServer] is made of.
type TemporalPrograms struct{ Server, SQLTool, CLI, UI string }

// InstallTemporalServer returns the programs of a [TemporalServer]. Like [TemporalCLI] it builds those that are not there.
func InstallTemporalServer(ctx context.Context, progress io.Writer) (TemporalPrograms, error) {
	var programs TemporalPrograms
	for _, program := range []struct {
		path                             *string
		name, title, pkg, version, takes string
	}{
		{&programs.Server, "temporal-server", "Temporal's server", "go.temporal.io/server/cmd/server", temporalServerVersion, "3 to 5 minutes"},
		{&programs.SQLTool, "temporal-sql-tool", "the tool for its schema", "go.temporal.io/server/cmd/tools/sql", temporalServerVersion, "a minute"},
		{&programs.UI, "temporal-ui", "Temporal's Web UI", "github.com/temporalio/ui-server/v2/cmd/server", temporalUIVersion, "a minute"},
	} {
		dir, err := cacheDir()
		if err != nil {
			return TemporalPrograms{}, fmt.Errorf("place %s: %w", program.title, err)
		}
		*program.path, err = installedProgram{
			dir: filepath.Join(dir, program.name+"-v"+program.version), name: program.name,
			title: program.title + " " + program.version, takes: program.takes,
			build: func(ctx context.Context, bin string) error {
				if err := goInstall(ctx, bin, "", program.pkg+"@v"+program.version); err != nil {
					return err
				}
				// Go names it after its directory.
				return os.Rename(filepath.Join(bin, path.Base(program.pkg)), filepath.Join(bin, program.name))
			},
		}.path(ctx, progress)
		if err != nil {
			return TemporalPrograms{}, fmt.Errorf("installing %s: %w", program.title, err)
		}
	}
	var err error
	programs.CLI, err = TemporalCLI(ctx, progress)
	return programs, err
}
