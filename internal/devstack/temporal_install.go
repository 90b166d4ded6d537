package devstack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

const (
	// temporalCLIVersion is the version of Temporal's command-line program. It brings server 1.29.
	temporalCLIVersion = "1.5.1"

	temporalCLIModule = "github.com/temporalio/cli"

	// installPrefix begins the names of directories that an installation goes into before it is whole.
	installPrefix = "install-"

	// installLockInterval separates two attempts to get a lock that another process holds for minutes.
	installLockInterval = 200 * time.Millisecond
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
	cli, err := installTemporalCLI(ctx, filepath.Join(dir, "temporal-cli-v"+temporalCLIVersion), progress, buildTemporalCLI)
	if err != nil {
		return "", fmt.Errorf("installing Temporal's command-line program: %w; if you have version %s, set TEMPORAL_CLI to its path",
			err, temporalCLIVersion)
	}
	return cli, nil
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

// installTemporalCLI returns the program in dir, which build puts there the first time.
func installTemporalCLI(ctx context.Context, dir string, progress io.Writer, build func(ctx context.Context, bin string) error) (string, error) {
	cli := filepath.Join(dir, "temporal")
	// What has this name is whole: it is renamed to it.
	if _, err := os.Stat(cli); err == nil {
		return cli, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}

	lock := flock.New(filepath.Join(dir, ".lock"))
	locked, err := lock.TryLock()
	if err == nil && !locked {
		fmt.Fprintf(progress, "Waiting for another process that is installing Temporal's development server into %s.\n", dir)
		_, err = lock.TryLockContext(ctx, installLockInterval)
	}
	if err != nil {
		return "", err
	}
	defer func() { _ = lock.Unlock() }()
	if _, err := os.Stat(cli); err == nil {
		return cli, nil
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
	fmt.Fprintf(progress, "Installing Temporal's development server %s from source into %s. This is done once and takes 3 to 5 minutes.\n",
		temporalCLIVersion, dir)
	if err := build(ctx, bin); err != nil {
		return "", err
	}
	return cli, os.Rename(filepath.Join(bin, "temporal"), cli)
}

// buildTemporalCLI has Go build the program into the directory bin, from the module proxy that Go is configured for.
func buildTemporalCLI(ctx context.Context, bin string) error {
	goCommand, err := exec.LookPath("go")
	if err != nil {
		return errors.New("it is built from source, for which go must be in PATH")
	}
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, goCommand, "install",
		// Without symbols the program is a fifth smaller and linked sooner. A version is otherwise not put in.
		"-ldflags=-s -w -X "+temporalCLIModule+"/temporalcli.Version="+temporalCLIVersion,
		temporalCLIModule+"/cmd/temporal@v"+temporalCLIVersion)
	// Settings for our own builds do not suit this one.
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "GOOS=") || strings.HasPrefix(v, "GOARCH=")
	}), "GOBIN="+bin, "GOFLAGS=", "GOWORK=off")
	if os.Getenv("HOME") == "" {
		// Go needs one for its caches. This one is deleted afterwards, for which the module cache must not be read-only.
		cmd.Env = append(cmd.Env, "HOME="+bin, "GOFLAGS=-modcacherw")
	}
	cmd.Dir = bin
	cmd.Stdout = &output
	cmd.Stderr = &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	setDeathSignal(cmd.SysProcAttr, syscall.SIGKILL)
	// The compilers that it runs are in its group.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err = startOnLastingThread(cmd); err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("%s: %w\n\t%s", strings.Join(cmd.Args, " "), err,
			bytes.ReplaceAll(bytes.TrimSpace(output.Bytes()), []byte("\n"), []byte("\n\t")))
	}
	return nil
}
