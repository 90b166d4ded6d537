package devstack

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

const (
	// temporalCLIVersion is the version of Temporal's command-line program. It brings server 1.29.
	temporalCLIVersion = "1.5.1"

	temporalCLIModule = "github.com/temporalio/cli"
)

// TemporalCLI returns the path of Temporal's command-line program: TEMPORAL_CLI if that is set, otherwise one in the user's cache
// directory, of the version that this package knows how to use. The first time it is built there from source, which takes minutes
// and says so to progress. Several processes may do this at once; one of them builds.
func TemporalCLI(ctx context.Context, progress io.Writer) (string, error) {
	if cli := os.Getenv("TEMPORAL_CLI"); cli != "" {
		path, err := exec.LookPath(cli)
		if err != nil {
			return "", fmt.Errorf("TEMPORAL_CLI: %w", err)
		}
		return filepath.Abs(path)
	}
	dir, err := cacheDir()
	if err != nil {
		return "", fmt.Errorf("place Temporal's command-line program: %w", err)
	}
	cli, err := installedProgram{
		dir: filepath.Join(dir, "temporal-cli-v"+temporalCLIVersion), name: "temporal",
		title: "Temporal's development server " + temporalCLIVersion, takes: "3 to 5 minutes", build: buildTemporalCLI,
	}.path(ctx, progress)
	if err != nil {
		return "", fmt.Errorf("installing Temporal's command-line program: %w; if you have version %s, set TEMPORAL_CLI to its path",
			err, temporalCLIVersion)
	}
	return cli, nil
}

// buildTemporalCLI has Go build the program into the directory bin.
func buildTemporalCLI(ctx context.Context, bin string) error {
	// A version is otherwise not put in.
	return goInstall(ctx, bin, "-X "+temporalCLIModule+"/temporalcli.Version="+temporalCLIVersion,
		temporalCLIModule+"/cmd/temporal@v"+temporalCLIVersion)
}
