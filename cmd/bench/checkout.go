package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/photo-processor/photo-processor/internal/devstack"
)

// findRevision returns the abbreviated hash of the commit that a revision of the
// repository names. dir is a directory of the repository.
func findRevision(ctx context.Context, dir, revision string) (commit string, err error) {
	commit, err = runProgram(ctx, dir, "git", "rev-parse", "--verify", "--short", revision+"^{commit}")
	if err != nil {
		return "", fmt.Errorf("%q is no revision of this repository: %w", revision, err)
	}
	return commit, nil
}

// nameTree returns the abbreviated hash of the commit that is checked out, and
// whether files differ from it.
func nameTree(ctx context.Context, dir string) (name string, err error) {
	if name, err = findRevision(ctx, dir, "HEAD"); err != nil {
		return "", err
	}
	changes, err := runProgram(ctx, dir, "git", "status", "--porcelain")
	if changes != "" {
		name += " + changes"
	}
	return name, err
}

// checkOut extracts a commit into a new directory below parent, and builds it there
// with make. The directory is no work tree, which the repository would keep a
// record of.
func checkOut(ctx context.Context, repository, commit, parent string) (dir string, err error) {
	if dir, err = os.MkdirTemp(parent, "photo-processor-bench-"); err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	archive := filepath.Join(dir, "source.tar")
	if _, err := runProgram(ctx, repository, "git", "archive", "--output="+archive, commit); err != nil {
		return "", err
	}
	if _, err := runProgram(ctx, dir, "tar", "-xf", archive); err != nil {
		return "", err
	}
	_, err = runProgram(ctx, dir, "make", "build")
	return dir, err
}

// inheritedVariables would apply to the other revision: an outer make's, and those
// that git sets for hooks.
var inheritedVariables = []string{"MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MFLAGS", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"}

// runProgram runs a program in a directory, and returns its standard output
// without space around it. It is a devstack.GroupCommand, and ends with this process.
func runProgram(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := devstack.GroupCommand(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = slices.DeleteFunc(os.Environ(), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return slices.Contains(inheritedVariables, name)
	})
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := devstack.RunChild(cmd)
	if ctx.Err() != nil {
		err = ctx.Err() // which is why it was killed
	}
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, bytes.TrimSpace(append(stdout.Bytes(), stderr.Bytes()...)))
	}
	return strings.TrimSpace(stdout.String()), nil
}
