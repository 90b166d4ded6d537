package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestUnknownRevision(t *testing.T) {
	t.Parallel()
	var shown bytes.Buffer
	for _, revision := range []string{"no-such-revision", "-x", "HEAD:go.mod"} {
		err := realMain(t.Context(), []string{"-compare", revision}, &shown, &shown)
		require.ErrorContains(t, err, fmt.Sprintf("%q is no revision of this repository", revision))
	}
	require.Empty(t, shown.String(), "nothing was built or started")
}

func TestOrderInRound(t *testing.T) {
	t.Parallel()
	var order []string
	variants := []string{"A", "B"}
	for i := range 3 {
		order = append(order, orderInRound(variants, i)...)
	}
	require.Equal(t, "AB BA AB", strings.Join(order[:2], "")+" "+strings.Join(order[2:4], "")+" "+strings.Join(order[4:], ""))
	require.Equal(t, []string{"A", "B"}, variants, "its argument is left alone")
}

func TestComparisonTable(t *testing.T) {
	t.Parallel()
	// 100 photos, of which each takes so many milliseconds of the render processes,
	// and so many of wall time.
	run := func(cost, wall time.Duration) figures {
		return figures{Photos: 100, Wall: wall * 100 * time.Millisecond, CPU: map[role]time.Duration{renderRole: cost * 100 * time.Millisecond, workerRole: time.Second}}
	}
	c := comparison{other: "abc1234", this: "def5678 + changes", report: &report{columns: []*column{
		{stack: "native", boxes: 3, photos: 100, runs: []figures{run(40, 50), run(80, 100), run(50, 40)}},
		{stack: "native", boxes: 3, photos: 100, runs: []figures{run(44, 40), run(72, 125), run(60, 40)}},
	}}}
	var out bytes.Buffer
	c.write(&out)
	for _, want := range []string{
		`\| native, 3 boxes, 100 photos +\| +other: abc1234 \| this tree: def5678 \+ changes \| +ratio \| +smallest \| +largest \|`,
		`\| photos/s +\| +20.00 \| +25.00 \| +1.000 \| +0.800 \| +1.250 \|`,         // of 20, 10, 25 and 25, 8, 25
		`\| CPU ms per photo +\| +60.00 \| +70.00 \| +1.080 \| +0.911 \| +1.167 \|`, // of 50, 90, 60 and 54, 82, 70
		`\| – render processes +\| +50.00 \| +60.00 \| +1.100 \| +0.900 \| +1.200 \|`,
		`\| – worker +\| +10.00 \| +10.00 \| +1.000 \| +1.000 \| +1.000 \|`,
		`\| – API +\| +0.00 \| +0.00 \| +– \| +– \| +– \|`, // no ratio to 0
		`3 pairs of batches`,
	} {
		require.Regexp(t, want, out.String())
	}
}

func TestCheckOut(t *testing.T) {
	t.Parallel()
	repository := t.TempDir()
	run := func(args ...string) string {
		t.Helper()
		output, err := runProgram(t.Context(), repository, "git", append([]string{"-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"}, args...)...)
		require.NoError(t, err)
		return output
	}
	commit := func(recipe string) string {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(repository, "Makefile"), []byte("build:\n\t"+recipe+"\n"), 0o644))
		run("add", "Makefile")
		run("commit", "-m", recipe)
		found, err := findRevision(t.Context(), repository, "HEAD")
		require.NoError(t, err)
		return found
	}
	run("init")
	good := commit("mkdir bin && echo good >bin/photo-processor")
	bad := commit("mkdir bin && echo no compiler >&2 && false")
	hanging := commit("touch ../hangs && sleep 1h")

	require.Equal(t, run("rev-parse", "--short", "HEAD~2"), good)
	this, err := nameTree(t.Context(), repository)
	require.NoError(t, err)
	require.Equal(t, run("rev-parse", "--short", hanging), this)
	require.NoError(t, os.WriteFile(filepath.Join(repository, "new.go"), nil, 0o644))
	changed, err := nameTree(t.Context(), repository)
	require.NoError(t, err)
	require.Equal(t, this+" + changes", changed)

	parent := t.TempDir()
	requireRemoved := func() {
		t.Helper()
		require.Len(t, strings.Split(run("worktree", "list"), "\n"), 1)
		left, err := filepath.Glob(filepath.Join(parent, "photo-processor-bench-*"))
		require.NoError(t, err)
		require.Empty(t, left)
	}
	dir, err := checkOut(t.Context(), repository, good, parent)
	require.NoError(t, err)
	content, err := os.ReadFile(filepath.Join(dir, "bin", "photo-processor"))
	require.NoError(t, err)
	require.Equal(t, "good\n", string(content))
	require.NoError(t, os.RemoveAll(dir))
	requireRemoved()

	_, err = checkOut(t.Context(), repository, bad, parent)
	require.ErrorContains(t, err, "no compiler")
	requireRemoved()

	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		assert.Eventually(t, func() bool {
			_, err := os.Stat(filepath.Join(parent, "hangs"))
			return err == nil
		}, time.Minute, lookInterval, "make runs")
	}()
	_, err = checkOut(ctx, repository, hanging, parent)
	require.ErrorIs(t, err, context.Canceled)
	requireRemoved()
}
