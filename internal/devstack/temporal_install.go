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
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

const (
	// installPrefix begins the names of directories that an installation goes into before it is whole.
	installPrefix = "install-"

	// installLockInterval separates two attempts to get a lock that another process holds for minutes.
	installLockInterval = 200 * time.Millisecond
)

// tool is a program that Go builds from source, from the module proxy that it is configured for, and that is kept in the user's
// cache directory. Each version has a directory of its own.
type tool struct {
	// what says in messages what it is.
	what string

	// name is the program's. Scripts call it so.
	name string

	// dir begins the name of its directory, which ends with the version.
	dir string

	// pkg and version are what `go install` is asked for.
	pkg, version string

	// ldflags are the linker's, without those that leave out symbols.
	ldflags string

	// time is how long it takes to build, in words.
	time string
}

const temporalCLIModule = "github.com/temporalio/cli"

var (
	// temporalCLI brings server 1.29 and its Web UI. It is the newest that `go install` can build.
	temporalCLI = tool{
		what: "Temporal's development server", name: "temporal", dir: "temporal-cli",
		pkg: temporalCLIModule + "/cmd/temporal", version: "1.5.1",
		// A version is otherwise not put in.
		ldflags: "-X " + temporalCLIModule + "/temporalcli.Version=1.5.1",
		time:    "3 to 5 minutes",
	}

	// temporalServer is the one of docker-compose's .env. 1.32.2 cannot be built with the Go version of ours.
	temporalServer = tool{
		what: "Temporal's server", name: "temporal-server", dir: "temporal-server",
		pkg: "go.temporal.io/server/cmd/server", version: "1.32.1", time: "3 to 5 minutes",
	}

	// temporalSQLTool has the schemas of the server of the same version in it.
	temporalSQLTool = tool{
		what: "the tool for the schema of Temporal's server", name: "temporal-sql-tool", dir: "temporal-sql-tool",
		pkg: "go.temporal.io/server/cmd/tools/sql", version: temporalServer.version, time: "less than a minute",
	}

	// temporalUI is the one of docker-compose's .env, the newest that the Go version of ours can build.
	temporalUI = tool{
		what: "Temporal's Web UI", name: "temporal-ui", dir: "temporal-ui",
		pkg: "github.com/temporalio/ui-server/v2/cmd/server", version: "2.55.0", time: "a minute",
	}
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
	cli, err := temporalCLI.installed(ctx, progress)
	if err != nil {
		return "", fmt.Errorf("%w; if you have version %s, set TEMPORAL_CLI to its path", err, temporalCLI.version)
	}
	return cli, nil
}

// TemporalPrograms are the paths of what a [TemporalServer] is made of.
type TemporalPrograms struct{ Server, SQLTool, CLI, UI string }

// InstallTemporalServer returns the programs of a [TemporalServer]. Like [TemporalCLI] it builds what is not there.
func InstallTemporalServer(ctx context.Context, progress io.Writer) (TemporalPrograms, error) {
	var programs TemporalPrograms
	var err error
	for _, program := range []struct {
		path *string
		tool tool
	}{{&programs.Server, temporalServer}, {&programs.SQLTool, temporalSQLTool}, {&programs.UI, temporalUI}} {
		if *program.path, err = program.tool.installed(ctx, progress); err != nil {
			return TemporalPrograms{}, err
		}
	}
	programs.CLI, err = TemporalCLI(ctx, progress)
	return programs, err
}

// installed returns the program's path, and builds it if it is not there.
func (t tool) installed(ctx context.Context, progress io.Writer) (string, error) {
	dir, err := cacheDir()
	if err != nil {
		return "", fmt.Errorf("place %s: %w", t.what, err)
	}
	path, err := t.install(ctx, filepath.Join(dir, t.dir+"-v"+t.version), progress, t.build)
	if err != nil {
		return "", fmt.Errorf("installing %s: %w", t.what, err)
	}
	return path, nil
}

// cacheDir is where builds are kept. Without a home it is in the directory of temporary files.
func cacheDir() (string, error) {
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "photo-processor"), nil
	}
	// Others write there, too: a directory that somebody else has made may have anything in it.
	dir := filepath.Join(os.TempDir(), "photo-processor-cache-"+strconv.Itoa(os.Geteuid()))
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", err
	}
	if owner := info.Sys().(*syscall.Stat_t); !info.IsDir() || int(owner.Uid) != os.Geteuid() || info.Mode().Perm() != 0o700 {
		return "", fmt.Errorf("%s is not ours alone; set HOME", dir)
	}
	return dir, nil
}

// install returns the program in dir, which build puts there the first time.
func (t tool) install(ctx context.Context, dir string, progress io.Writer, build func(ctx context.Context, bin string) error) (string, error) {
	program := filepath.Join(dir, t.name)
	// What has this name is whole: it is renamed to it.
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}

	lock := flock.New(filepath.Join(dir, ".lock"))
	locked, err := lock.TryLock()
	if err == nil && !locked {
		fmt.Fprintf(progress, "Waiting for another process that is installing %s into %s.\n", t.what, dir)
		_, err = lock.TryLockContext(ctx, installLockInterval)
	}
	if err != nil {
		return "", err
	}
	defer func() { _ = lock.Unlock() }()
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}

	leftovers, err := filepath.Glob(filepath.Join(escapeGlob(dir), installPrefix+"*"))
	if err != nil {
		return "", err
	}
	for _, leftover := range leftovers {
		if err := os.RemoveAll(leftover); err != nil {
			return "", err
		}
	}
	bin, err := os.MkdirTemp(dir, installPrefix)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(bin)
	fmt.Fprintf(progress, "Installing %s %s from source into %s. This is done once and takes %s.\n", t.what, t.version, dir, t.time)
	if err := build(ctx, bin); err != nil {
		return "", err
	}
	return program, os.Rename(filepath.Join(bin, t.name), program)
}

// build has Go build the program into the directory bin, from the module proxy that Go is configured for.
func (t tool) build(ctx context.Context, bin string) error {
	goCommand, err := exec.LookPath("go")
	if err != nil {
		return errors.New("it is built from source, for which go must be in PATH")
	}
	// Without symbols the program is a fifth smaller and linked sooner.
	cmd := exec.Command(goCommand, "install", strings.TrimSpace("-ldflags=-s -w "+t.ldflags), t.pkg+"@v"+t.version)
	// Settings for our own builds do not suit this one.
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "GOOS=") || strings.HasPrefix(v, "GOARCH=")
	}), "GOBIN="+bin, "GOFLAGS=", "GOWORK=off")
	if os.Getenv("HOME") == "" {
		// Go needs one for its caches. This one is deleted afterwards, for which the module cache must not be read-only.
		cmd.Env = append(cmd.Env, "HOME="+bin, "GOFLAGS=-modcacherw")
	}
	cmd.Dir = bin
	if err := run(ctx, cmd); err != nil {
		return err
	}
	// Go names it after its directory.
	return os.Rename(filepath.Join(bin, path.Base(t.pkg)), filepath.Join(bin, t.name))
}
