// Command photo-processor-dev runs PostgreSQL, Temporal, the API and a worker on
// one machine, for developers and for trying the product out. `make start` and
// its neighbours call it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/photo-processor/photo-processor/internal/devstack"
	"github.com/photo-processor/photo-processor/internal/exitcode"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/samples"
	"github.com/photo-processor/photo-processor/internal/telemetry"
)

const (
	// startTimeout includes building Temporal's programs, once on a machine.
	startTimeout = 30 * time.Minute
	// stopTimeout is for PostgreSQL and Temporal. The API and each worker have
	// SHUTDOWN_TIMEOUT in addition, one after the other.
	stopTimeout = 2 * time.Minute
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal kills
	os.Exit(exitcode.Run(ctx, newRoot(), os.Args[1:], os.Stdout, os.Stderr))
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "photo-processor-dev",
		Short: "Run photo-processor and all it needs on this machine",
		Long: `Run PostgreSQL, Temporal's development server with its Web UI, the API, a worker
and a few sample photos on this machine. All data is kept in DATA_DIR.

With --cluster, Temporal is the production server with its data in PostgreSQL,
and there are three workers. The cluster keeps its data
in DATA_DIR/cluster. Either the one or the other can run.

With DATABASE_URL or TEMPORAL_ADDRESS set, those servers are used instead.

` + exitcode.Help,
	}
	var force bool
	schema := command("db-schema", "Drop all photos, create the schema, and add six sample photos",
		func(ctx context.Context, out io.Writer, s *stack) error { return resetSchema(ctx, out, s, force) })
	schema.Flags().BoolVar(&force, "force", false, "do not ask, and accept a database that is not the stack's own")
	root.AddCommand(
		startCommand("run", "Run everything in the foreground, until it is interrupted", runForeground),
		newStart(),
		newStop(),
		command("status", "Print what runs, and the addresses", printStatus),
		newEnv(),
		schema,
		newSamples(),
	)
	return root
}

func newEnv() *cobra.Command {
	return &cobra.Command{
		Use: "env", Short: "Print the variables with which the API and a worker use this stack",
		Long: `Print the variables with which the API and a worker use this stack, for a shell to
evaluate. METRICS_ADDR is emptied, because the stack's own API has that port.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := loadStack(cmd.Context())
			if err != nil {
				return err
			}
			return writeEnv(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), s)
		},
	}
}

type run func(ctx context.Context, out io.Writer, s *stack) error

// command is a command for the stack that runs, else for the usual one.
func command(use, short string, run run) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		s, err := loadStack(cmd.Context())
		if err != nil {
			return err
		}
		return run(cmd.Context(), cmd.OutOrStdout(), s)
	}}
}

// startCommand is a command that starts a stack.
func startCommand(use, short string, run run) *cobra.Command {
	var cluster bool
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		s, err := loadStackToStart(cmd.Context(), cluster)
		if err != nil {
			return err
		}
		return run(cmd.Context(), cmd.OutOrStdout(), s)
	}}
	cmd.Flags().BoolVar(&cluster, "cluster", false, "run Temporal's production server and three workers")
	return cmd
}

func newStart() *cobra.Command {
	return withProcesses(startCommand("start", "Start everything in the background, and return when it is ready", start),
		`With names of processes, start those that "stop" has stopped.`, "runs", devstack.Dir.StartProcess)
}

func newStop() *cobra.Command {
	return withProcesses(command("stop", "Stop everything; all data is kept", stop),
		`With names of processes, as "status" prints them, stop only these. They stay
stopped until "start" with their names, or until the whole stack is restarted.`, "has stopped", devstack.Dir.StopProcess)
}

// withProcesses returns the command for the whole stack, which with arguments
// calls act for single processes. help describes that, and done is printed after
// the name of each.
func withProcesses(cmd *cobra.Command, help, done string, act func(devstack.Dir, context.Context, string) error) *cobra.Command {
	cmd.Use += " [PROCESS]..."
	cmd.Long = cmd.Short + ".\n" + help
	cmd.Args = cobra.ArbitraryArgs
	all := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		if len(names) == 0 {
			return all(cmd, nil)
		}
		return eachProcess(cmd, names, done, act)
	}
	return cmd
}

// eachProcess starts or stops single processes of the stack that runs.
func eachProcess(cmd *cobra.Command, names []string, done string, act func(devstack.Dir, context.Context, string) error) error {
	s, err := loadStack(cmd.Context())
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := act(s.dir, cmd.Context(), name); err != nil {
			return notRunning(err)
		}
		fmt.Fprintln(cmd.OutOrStdout(), name, done)
	}
	return nil
}

// notRunning explains devstack.ErrNotRunning.
func notRunning(err error) error {
	if errors.Is(err, devstack.ErrNotRunning) {
		return errors.New("photo-processor is not running; start it first: make start")
	}
	return err
}

// runForeground is the supervisor of all other processes.
func runForeground(ctx context.Context, out io.Writer, s *stack) (err error) {
	syscall.Umask(0o077) // other users may not read what the stack creates
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	control, err := s.dir.Lock(ctx, &s.supervisor, stop)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, control.Close()) }()
	s.supervisor.Log = telemetry.NewLogger(os.Stderr, s.cfg.LogLevel, false)
	defer func() {
		control.SetStopping()
		err = errors.Join(err, s.supervisor.Stop())
	}()
	state, err := s.start(ctx, out)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	control.SetReady(state)
	describe(out, state, s.dir)
	<-ctx.Done()
	fmt.Fprintln(out, "Stopping, after the photos in progress.")
	return nil
}

func start(ctx context.Context, out io.Writer, s *stack) error {
	startCtx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := s.install(startCtx, out); err != nil {
		return err
	}
	argv := []string{self, "run"}
	if s.dir.IsCluster() {
		argv = append(argv, "--cluster")
	}
	fmt.Fprintln(out, "Starting …")
	state, err := devstack.Start(startCtx, s.dir, argv)
	if running, ok := errors.AsType[*devstack.RunningError](err); ok {
		state, err := devstack.WaitReady(startCtx, s.dir)
		if errors.Is(err, devstack.ErrNotRunning) {
			return errors.New("another process has begun to start it, and it stopped before it was ready")
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "photo-processor runs already (process %d). `make status` prints the addresses; `make stop` stops it.\n", running.PID)
		return warnOfIgnoredSettings(out, state.Settings)
	}
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w; all that was started is stopped", exitcode.ErrInterrupted)
	}
	if err != nil {
		return err
	}
	describe(out, state, s.dir)
	return nil
}

func describe(w io.Writer, state devstack.State, dir devstack.Dir) {
	ui := state.TemporalUIURL
	if ui == "" {
		ui = "(of the Temporal that TEMPORAL_ADDRESS names)"
	}
	fmt.Fprintf(w, `photo-processor is ready.
  API              %s
  Temporal Web UI  %s
  Temporal         %s
  sample photos    %s
  data and logs    %s
`, state.APIURL, ui, state.TemporalAddress, state.SamplesURL, dir.Root)
}

func stop(ctx context.Context, out io.Writer, s *stack) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout+time.Duration(s.Workers+1)*serviceStopTimeout(s.cfg))
	defer cancel()
	err := devstack.Stop(ctx, s.dir)
	if errors.Is(err, devstack.ErrNotRunning) {
		fmt.Fprintln(out, "photo-processor is not running.")
		return nil
	}
	if err == nil {
		fmt.Fprintln(out, "photo-processor has stopped; its data is kept in", s.dir.Root)
	}
	return err
}

func printStatus(ctx context.Context, out io.Writer, s *stack) error {
	status, err := s.dir.Status(ctx)
	if err != nil {
		return err
	}
	if status.PID == 0 {
		fmt.Fprintln(out, "photo-processor is not running. `make start` starts it.")
		return exitcode.ErrReported
	}
	if status.State == nil {
		doing := "starting"
		if status.Stopping {
			doing = "stopping"
		}
		fmt.Fprintf(out, "photo-processor is %s (process %d).\n", doing, status.PID)
		return exitcode.ErrReported
	}
	describe(out, *status.State, s.dir)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, process := range status.Processes {
		pid := "not running"
		if process.PID != 0 {
			pid = "process " + strconv.Itoa(process.PID)
		}
		fmt.Fprintf(table, "  %s\t%s\t%s\n", process.Name, pid, s.dir.Log(process.Name))
	}
	return table.Flush()
}

// writeEnv prints the variables to out, which a shell evaluates. Notes are on
// errs.
func writeEnv(ctx context.Context, out, errs io.Writer, s *stack) error {
	status, err := s.dir.Status(ctx)
	if err != nil {
		return err
	}
	if status.PID == 0 {
		fmt.Fprintln(errs, "photo-processor is not running. `make start` starts it.")
	}
	for _, name := range stackVariables {
		fmt.Fprintf(out, "export %s=%s\n", name, shellQuote(os.Getenv(name)))
	}
	if os.Getenv("METRICS_ADDR") != "" { // the API of the stack has the port
		fmt.Fprintln(out, "export METRICS_ADDR=''")
	}
	return nil
}

// shellQuote quotes a value for a POSIX shell.
func shellQuote(value string) string { return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'" }

// removeAllIn empties the directory. A bucket whose directory is missing is not
// ready.
func removeAllIn(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, entry.Name())))
	}
	return err
}

// resetSchema drops all photos of the running stack and adds the samples.
func resetSchema(ctx context.Context, out io.Writer, s *stack, force bool) error {
	status, err := s.dir.Status(ctx)
	if err != nil {
		return err
	}
	state := status.State
	switch {
	case status.PID == 0:
		return notRunning(devstack.ErrNotRunning)
	case state == nil:
		return fmt.Errorf("photo-processor is starting or stopping (process %d)", status.PID)
	case !state.OwnDatabase && !force:
		return errors.New("DATABASE_URL names a database that is not this stack's own; --force drops its photos all the same")
	}
	db, err := postgres.Open(state.DatabaseURL, 2)
	if err != nil {
		return err
	}
	defer db.Close()
	if !force {
		if err := confirmDrop(out); err != nil {
			return err
		}
	}
	if err := db.Reset(ctx); err != nil {
		return err
	}
	if err := removeAllIn(s.dir.Thumbnails()); err != nil {
		return fmt.Errorf("remove the thumbnails of the dropped photos: %w", err)
	}
	urls := samples.URLs(state.SamplesURL)
	photos, err := db.AddPhotos(ctx, urls)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "Drawing the sample photos …") // once; later they are files
	if err := fetchAll(ctx, urls); err != nil {
		return err
	}
	fmt.Fprintln(out, "The schema is new, and has these photos, all pending:")
	for _, p := range photos {
		fmt.Fprintf(out, "  %s  %s\n", p.UUID, p.URL)
	}
	return nil
}
