// Package exitcode runs the command lines of the programs, and maps the error
// of a command to the program's exit code. docs/operating.md lists the codes.
package exitcode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes of photo-processor and photo-processor-dev.
const (
	OK          = 0
	Failure     = 1 // a photo failed, an audit found something, or the command failed
	Usage       = 2 // the command line is wrong
	Unreachable = 3 // the API cannot be reached; for audit, PostgreSQL or the bucket
	Interrupted = 130
)

// Help describes the codes, for --help.
const Help = `Exit codes:
  0    success
  1    a photo failed, an audit found something, or the command failed
  2    the command line is wrong
  3    the API cannot be reached; for audit, PostgreSQL or the bucket
  130  interrupted`

var (
	// ErrReported ends the program with exit code 1. The command has printed the
	// reason.
	ErrReported = errors.New("failed")
	// ErrInterrupted ends the program with exit code 130.
	ErrInterrupted = errors.New("interrupted")
)

// Error is an error with its exit code.
type Error struct {
	Code int
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Usagef returns an Error for a mistake in the command line.
func Usagef(format string, args ...any) error { return &Error{Usage, fmt.Errorf(format, args...)} }

// Run runs the command line and returns the exit code. It prints errors to
// stderr. The context ends when the program is interrupted.
func Run(ctx context.Context, root *cobra.Command, args []string, stdout, stderr io.Writer) int {
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SilenceUsage, root.SilenceErrors = true, true
	prepare(root)
	cmd, err := root.ExecuteContextC(ctx)
	coded, isCoded := errors.AsType[*Error](err)
	switch {
	case err == nil:
		return OK
	case errors.Is(err, ErrInterrupted):
		fmt.Fprintf(stderr, "%s: %s\n", root.Name(), err)
		return Interrupted
	case ctx.Err() != nil && errors.Is(err, context.Canceled): // of the request that was interrupted
		fmt.Fprintf(stderr, "%s: %s\n", root.Name(), ErrInterrupted)
		return Interrupted
	case errors.Is(err, ErrReported):
		return Failure
	}
	fmt.Fprintf(stderr, "%s: %s\n", root.Name(), err)
	if !isCoded {
		return Failure
	}
	if coded.Code == Usage {
		fmt.Fprintf(stderr, "See %s --help.\n", cmd.CommandPath())
	}
	return coded.Code
}

// prepare makes every wrong command line an [Error]. Cobra succeeds, and prints
// help, where a command or the topic of help is missing or unknown.
func prepare(root *cobra.Command) {
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetHelpCommand(&cobra.Command{
		Use: "help [COMMAND]", Short: "Show the help of a command",
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return Usagef("unknown command %q", strings.Join(args, " "))
			}
			return cmd.Help()
		},
	})
	root.InitDefaultCompletionCmd()
	markUsageErrors(root)
}

// markUsageErrors makes wrong flags and arguments of a command and of its
// subcommands an [Error].
func markUsageErrors(cmd *cobra.Command) {
	if !cmd.Runnable() { // it only groups commands
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return Usagef("a command is required")
			}
			return Usagef("unknown command %q", args[0])
		}
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &Error{Usage, err} })
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return &Error{Usage, err}
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		markUsageErrors(sub)
	}
}
