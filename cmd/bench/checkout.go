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

// findRevision returns the hash of the commit that a revision of the repository
// names. dir is a directory of the repository.
func findRevision(ctx context.Context, dir, revision string) (commit string, err error) {
	commit, err = git(ctx, dir, "rev-parse", "--verify", revision+"^{commit}")
	if err != nil {
		return "", fmt.Errorf("%q is no revision of this repository: %w", revision, err)
	}
	return commit, nil
}

// revisionNames returns the abbreviated hashes of the other commit and of this
// tree's.
func revisionNames(ctx context.Context, dir, commit string) (other, this string, err error) {
	if other, err = git(ctx, dir, "rev-parse", "--short", commit); err != nil {
		return "", "", err
	}
	if this, err = git(ctx, dir, "rev-parse", "--short", "HEAD"); err != nil {
		return "", "", err
	}
	changes, err := git(ctx, dir, "status", "--porcelain")
	if changes != "" {
		this += " + changes"
	}
	return other, this, err
}

// checkout is another revision of the repository, built in a directory of its own.
type checkout struct {
	root    string // a temporary directory
	program string // the built photo-processor
}

// checkOut extracts a commit into a new directory below parent, and builds it with
// make. It has no repository: a work tree of this one would have to be removed from
// its records, too.
func checkOut(ctx context.Context, repository, commit, parent string) (_ *checkout, err error) {
	c := &checkout{}
	if c.root, err = os.MkdirTemp(parent, "photo-processor-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.remove())
		}
	}()
	archive, tree := filepath.Join(c.root, "tree.tar"), filepath.Join(c.root, "tree")
	if _, err := git(ctx, repository, "archive", "--prefix=tree/", "--output="+archive, commit); err != nil {
		return nil, err
	}
	if _, err := runProgram(ctx, c.root, "tar", "-xf", archive); err != nil {
		return nil, err
	}
	if _, err := runProgram(ctx, tree, "make", "build"); err != nil {
		return nil, err
	}
	c.program = filepath.Join(tree, "bin", "photo-processor")
	return c, nil
}

func (c *checkout) remove() error { return os.RemoveAll(c.root) }

// git runs git in a directory, and returns its output without the last newline.
func git(ctx context.Context, dir string, args ...string) (string, error) {
	output, err := runProgram(ctx, dir, "git", args...)
	return strings.TrimSuffix(output, "\n"), err
}

// inheritedVariables would apply to the other revision: an outer make's, and those
// that git sets for hooks.
var inheritedVariables = []string{"MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MFLAGS", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"}

// runProgram runs a program in a directory, and returns its standard output. It
// is a devstack.GroupCommand, and ends with this process.
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
	err := devstack.StartChild(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err == nil {
		return stdout.String(), nil
	}
	text := fmt.Sprintf("%s %s", name, strings.Join(args, " "))
	if ctx.Err() != nil {
		return "", fmt.Errorf("%s: %w", text, ctx.Err())
	}
	return "", fmt.Errorf("%s: %w\n%s", text, err, bytes.TrimSpace(append(stdout.Bytes(), stderr.Bytes()...)))
}
