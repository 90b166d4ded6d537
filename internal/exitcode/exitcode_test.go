package exitcode_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/exitcode"
)

func TestRun(t *testing.T) {
	t.Parallel()
	interrupted, interrupt := context.WithCancel(t.Context())
	interrupt()
	for name, test := range map[string]struct {
		ctx    context.Context
		args   []string
		err    error // of the command
		want   int
		stderr string
	}{
		"success":                 {args: []string{"run", "x"}},
		"help":                    {args: []string{"--help"}},
		"help of a command":       {args: []string{"help", "run"}},
		"no command":              {want: 2, stderr: "program: a command is required\nSee program --help.\n"},
		"unknown command":         {args: []string{"nonsense"}, want: 2, stderr: "program: unknown command \"nonsense\"\nSee program --help.\n"},
		"unknown help":            {args: []string{"help", "nonsense"}, want: 2, stderr: "program: unknown command \"nonsense\"\nSee program help --help.\n"},
		"unknown flag":            {args: []string{"run", "--nonsense", "x"}, want: 2, stderr: "program: unknown flag: --nonsense\nSee program run --help.\n"},
		"unknown flag of root":    {args: []string{"--nonsense"}, want: 2, stderr: "program: unknown flag: --nonsense\nSee program --help.\n"},
		"wrong number":            {args: []string{"run"}, want: 2, stderr: "program: accepts 1 arg(s), received 0\nSee program run --help.\n"},
		"usage error":             {args: []string{"run", "x"}, err: exitcode.Usagef("bad"), want: 2, stderr: "program: bad\nSee program run --help.\n"},
		"failure":                 {args: []string{"run", "x"}, err: errors.New("bad"), want: 1, stderr: "program: bad\n"},
		"reported failure":        {args: []string{"run", "x"}, err: exitcode.ErrReported, want: 1},
		"unreachable":             {args: []string{"run", "x"}, err: fmt.Errorf("the API: %w", &exitcode.Error{Code: exitcode.Unreachable, Err: errors.New("away")}), want: 3, stderr: "program: the API: away\n"},
		"interrupted":             {ctx: interrupted, args: []string{"run", "x"}, err: fmt.Errorf("GET /: %w", context.Canceled), want: 130, stderr: "program: interrupted\n"},
		"interrupted, with words": {args: []string{"run", "x"}, err: fmt.Errorf("%w; no longer watching", exitcode.ErrInterrupted), want: 130, stderr: "program: interrupted; no longer watching\n"},
		"canceled by itself":      {args: []string{"run", "x"}, err: context.Canceled, want: 1, stderr: "program: context canceled\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := &cobra.Command{Use: "program"}
			root.AddCommand(&cobra.Command{Use: "run", Args: cobra.ExactArgs(1), RunE: func(*cobra.Command, []string) error { return test.err }})
			ctx := test.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			var stdout, stderr bytes.Buffer
			require.Equal(t, test.want, exitcode.Run(ctx, root, append([]string{}, test.args...), &stdout, &stderr))
			require.Equal(t, test.stderr, stderr.String())
		})
	}
}
