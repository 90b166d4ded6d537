package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/mod/semver"
)

// The versions of the programs that Install builds from source. Those of
// Temporal's server and UI are the newest that Go 1.26 can build; .env has the
// same ones for docker-compose.yml.
const (
	temporalCLIVersion    = "v1.5.1" // has server 1.29
	temporalServerVersion = "v1.32.1"
	temporalUIVersion     = "v2.55.0"

	temporalCLIModule = "github.com/temporalio/cli"
)

// GoProgram is a program that is built from source by `go install`, once on a
// machine.
type GoProgram struct {
	Name    string // of the file
	Package string // without a version
	Version string
	Takes   string // how long it takes to build, such as "a minute"
	LDFlags string
}

// Install returns the program's path. The first time it builds the program into
// the user's cache directory and says so to progress; if several processes call
// Install at the same time, one of them builds.
func (p GoProgram) Install(ctx context.Context, progress io.Writer) (string, error) {
	program, err := p.install(ctx, progress)
	if err != nil {
		return "", fmt.Errorf("install %s %s: %w", p.Name, p.Version, err)
	}
	return program, nil
}

func (p GoProgram) install(ctx context.Context, progress io.Writer) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("%w; it is the place of programs that are built", err)
	}
	dir := filepath.Join(cache, "photo-processor", p.Name+"-"+p.Version)
	program := filepath.Join(dir, p.Name)
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	lock := flock.New(filepath.Join(dir, ".lock"))
	if _, err := lock.TryLockContext(ctx, 200*time.Millisecond); err != nil {
		return "", err
	}
	defer func() { _ = lock.Unlock() }()
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	goCommand, err := exec.LookPath("go")
	if err != nil {
		return "", errors.New("it is built from source, for which go must be in PATH")
	}
	fmt.Fprintf(progress, "Building %s %s into %s. This takes %s, once on a machine.\n", p.Name, p.Version, dir, p.Takes)
	bin := filepath.Join(dir, "unfinished")
	if err := os.RemoveAll(bin); err != nil {
		return "", err
	}
	// Settings for this project's own builds do not apply.
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "GOOS=") || strings.HasPrefix(v, "GOARCH=")
	})
	env = append(env, "GOBIN="+bin, "GOFLAGS=", "GOWORK=off")
	if err := run(ctx, env, dir, nil, goCommand, "install", "-ldflags=-s -w "+p.LDFlags, p.Package+"@"+p.Version); err != nil {
		return "", err
	}
	// Go names the program after the package's directory.
	if err := os.Rename(filepath.Join(bin, path.Base(p.Package)), program); err != nil {
		return "", err
	}
	return program, os.Remove(bin)
}

// TemporalCLI returns the path of Temporal's command-line program: TEMPORAL_CLI
// if it is set, else the one in PATH if its version is 1.5.1 or a later 1.x,
// else one that is built.
func TemporalCLI(ctx context.Context, progress io.Writer) (string, error) {
	if cli := os.Getenv("TEMPORAL_CLI"); cli != "" {
		path, err := exec.LookPath(cli)
		if err != nil {
			return "", fmt.Errorf("TEMPORAL_CLI: %w", err)
		}
		return filepath.Abs(path)
	}
	if cli, err := exec.LookPath("temporal"); err == nil && isUsableCLI(ctx, cli) {
		return filepath.Abs(cli)
	}
	return GoProgram{
		Name: "temporal", Package: temporalCLIModule + "/cmd/temporal", Version: temporalCLIVersion, Takes: "3 to 5 minutes",
		LDFlags: "-X " + temporalCLIModule + "/temporalcli.Version=" + strings.TrimPrefix(temporalCLIVersion, "v"),
	}.Install(ctx, progress)
}

// isUsableCLI reports whether the program has a version that this package is
// tested with, or a later one that is compatible with it.
func isUsableCLI(ctx context.Context, cli string) bool {
	output, err := exec.CommandContext(ctx, cli, "--version").Output()
	if err != nil {
		return false
	}
	version := "v" + regexp.MustCompile(`[0-9]+\.[0-9]+\.[0-9]+`).FindString(string(output))
	return semver.Major(version) == semver.Major(temporalCLIVersion) && semver.Compare(version, temporalCLIVersion) >= 0
}

// TemporalPrograms are the paths of the programs of a [TemporalServer].
type TemporalPrograms struct{ Server, SQLTool, CLI, UI string }

// InstallTemporalServer returns the programs of a [TemporalServer], and builds
// those that are missing.
func InstallTemporalServer(ctx context.Context, progress io.Writer) (programs TemporalPrograms, err error) {
	for path, program := range map[*string]GoProgram{
		&programs.Server:  {Name: "temporal-server", Package: "go.temporal.io/server/cmd/server", Version: temporalServerVersion, Takes: "3 to 5 minutes"},
		&programs.SQLTool: {Name: "temporal-sql-tool", Package: "go.temporal.io/server/cmd/tools/sql", Version: temporalServerVersion, Takes: "a minute"},
		&programs.UI:      {Name: "temporal-ui", Package: "github.com/temporalio/ui-server/v2/cmd/server", Version: temporalUIVersion, Takes: "a minute"},
	} {
		if *path, err = program.Install(ctx, progress); err != nil {
			return TemporalPrograms{}, err
		}
	}
	programs.CLI, err = TemporalCLI(ctx, progress)
	return programs, err
}
