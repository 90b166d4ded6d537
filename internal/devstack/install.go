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
	// installPrefix begins the names of directories that an installation goes into before it is whole.
	installPrefix = "install-"

	// installLockInterval separates two attempts to get a lock that another process holds for minutes.
	installLockInterval = 200 * time.Millisecond
)

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

// installedProgram is a program that is built from source, once on a machine.
type installedProgram struct {
	dir   string // where it is, alone
	name  string // of its file
	title string // what it is, for people
	takes string // how long it takes to build
	build func(ctx context.Context, bin string) error
}

// path returns the program's path. The first time the program is built, which it says to progress.
func (p installedProgram) path(ctx context.Context, progress io.Writer) (string, error) {
	dir, program := p.dir, filepath.Join(p.dir, p.name)
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
		fmt.Fprintf(progress, "Waiting for another process that is installing %s into %s.\n", p.title, dir)
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
	fmt.Fprintf(progress, "Installing %s from source into %s. This is done once and takes %s.\n", p.title, dir, p.takes)
	if err := p.build(ctx, bin); err != nil {
		return "", err
	}
	return program, os.Rename(filepath.Join(bin, p.name), program)
}

// goInstall has Go build the package, such as example.com/cmd/x@v1.2.3, into the directory bin, from the module proxy that Go is
// configured for.
func goInstall(ctx context.Context, bin, ldflags, pkg string) error {
	goCommand, err := exec.LookPath("go")
	if err != nil {
		return errors.New("it is built from source, for which go must be in PATH")
	}
	var output bytes.Buffer
	// Without symbols a program is a fifth smaller and linked sooner.
	cmd := exec.CommandContext(ctx, goCommand, "install", "-ldflags=-s -w "+ldflags, pkg)
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
