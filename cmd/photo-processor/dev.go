package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"golang.org/x/sync/errgroup"

	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/devstack"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/samples"
	"github.com/photo-processor/photo-processor/internal/telemetry"
)

const (
	// startTime bounds a start of the whole stack. Building Temporal's command
	// line, once on a machine, takes minutes of it.
	startTime = 20 * time.Minute
	// stopTime bounds a stop: the worker's, the API's, and the databases'.
	stopTime = 3 * time.Minute
)

func newDev() *cobra.Command {
	dev := &cobra.Command{
		Use:   "dev",
		Short: "Run everything on this machine: PostgreSQL, Temporal, API and worker",
		Long: `Run everything on this machine, in the foreground, until it is interrupted:
PostgreSQL, Temporal's development server with its Web UI, the API, a worker,
and a few sample photos. All data is kept in DATA_DIR.

With DATABASE_URL or TEMPORAL_ADDRESS set, those are used instead.`,
		Args: cobra.NoArgs,
		RunE: withDir(runDev),
	}
	var force bool
	schema := &cobra.Command{
		Use: "db-schema", Short: "Drop all photos, make the schema anew, and add the sample photos", Args: cobra.NoArgs,
		RunE: withDir(func(cmd *cobra.Command, cfg config.Config, dir devstack.Dir) error {
			return devSchema(cmd, cfg, dir, force)
		}),
	}
	schema.Flags().BoolVar(&force, "force", false, "also in a database that is not the stack's own")
	dev.AddCommand(
		&cobra.Command{Use: "start", Short: "Run everything in the background, and return when it is ready", Args: cobra.NoArgs, RunE: withDir(devStart)},
		&cobra.Command{Use: "stop", Short: "Stop what start has started; all data is kept", Args: cobra.NoArgs, RunE: withDir(devStop)},
		&cobra.Command{Use: "status", Short: "Tell what runs, and where", Args: cobra.NoArgs, RunE: withDir(devStatus)},
		&cobra.Command{Use: "env", Short: "Print the variables with which api and worker use this stack", Args: cobra.NoArgs, RunE: withDir(devEnv)},
		schema,
	)
	return dev
}

func withDir(run func(*cobra.Command, config.Config, devstack.Dir) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		cfg, err := config.Load()
		if err != nil {
			return err
		}
		dir, err := devstack.NewDir(cfg.DataDir)
		if err != nil {
			return err
		}
		return run(cmd, cfg, dir)
	}
}

// runDev is the foreground process that keeps all others running.
func runDev(cmd *cobra.Command, cfg config.Config, dir devstack.Dir) (err error) {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	lock, err := dir.Lock()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()

	supervisor := &devstack.Supervisor{Log: telemetry.NewLogger(cmd.ErrOrStderr(), cfg.LogLevel, false)}
	defer func() { err = errors.Join(err, supervisor.Stop()) }()
	state, err := startStack(ctx, out, cfg, dir, supervisor)
	if ctx.Err() != nil {
		return nil // asked to stop while it started
	}
	if err != nil {
		return err
	}
	if err := dir.WriteState(state); err != nil {
		return err
	}
	describe(out, state, dir)
	<-ctx.Done()
	fmt.Fprintln(out, "Stopping; what is under way is finished first.")
	return nil
}

// startStack starts one thing after the other, each when those it needs are
// ready.
func startStack(ctx context.Context, out io.Writer, cfg config.Config, dir devstack.Dir, supervisor *devstack.Supervisor) (devstack.State, error) {
	state := devstack.State{
		APIURL:          "http://" + cfg.HTTPAddr,
		DatabaseURL:     cfg.DatabaseURL,
		TemporalAddress: temporalAddress(cfg),
		SamplesURL:      fmt.Sprintf("http://127.0.0.1:%d", cfg.DevSamplesPort),
	}
	freePort := func(context.Context) error { return devstack.CheckPort(cfg.HTTPAddr, "the API", "HTTP_ADDR") }
	if _, err := os.Stat(dir.PIDFile("api")); err != nil { // else it may be an orphan's, which is ended below
		if err := freePort(ctx); err != nil {
			return state, err
		}
	}
	if err := serveSamples(ctx, cfg, dir); err != nil {
		return state, err
	}
	// Variables that name the stack's own servers, as "dev env" prints them, are
	// as good as none.
	if own := (devstack.Postgres{Dir: dir}); state.DatabaseURL != own.DSN() {
		fmt.Fprintln(out, "Using the PostgreSQL that DATABASE_URL names …")
	} else {
		fmt.Fprintln(out, "Starting PostgreSQL …")
		if err := start(ctx, supervisor, own); err != nil {
			return state, err
		}
	}
	if state.TemporalAddress != ownTemporalAddress(cfg) {
		fmt.Fprintln(out, "Using the Temporal that TEMPORAL_ADDRESS names …")
	} else {
		cli, err := devstack.TemporalCLI(ctx, out)
		if err != nil {
			return state, err
		}
		temporal := devstack.Temporal{Dir: dir, CLI: cli, Port: cfg.DevTemporalPort, UIPort: cfg.DevTemporalUIPort}
		fmt.Fprintln(out, "Starting Temporal …")
		if err := start(ctx, supervisor, temporal); err != nil {
			return state, err
		}
		state.TemporalUIURL = temporal.UIURL()
	}
	fmt.Fprintln(out, "Starting the API and a worker …")
	self, err := os.Executable()
	if err != nil {
		return state, err
	}
	env := os.Environ()
	for _, variable := range environment(cfg, dir) {
		env = append(env, variable.name+"="+variable.value)
	}
	service := devstack.Process{Path: self, Env: env, StopTimeout: cfg.ShutdownTimeout + 10*time.Second}

	api := service
	api.Name, api.Args = "api", []string{"api"}
	api.LogFile, api.PIDFile = dir.Log("api"), dir.PIDFile("api")
	api.Prepare = freePort
	api.Ready = func(ctx context.Context) error { return isReady(ctx, state.APIURL) }
	if err := supervisor.Start(ctx, api); err != nil {
		return state, err
	}
	worker := service
	worker.Name, worker.Args = "worker", []string{"worker"}
	worker.Env = append(slices.Clip(env), "METRICS_ADDR="+nextPort(cfg.MetricsAddr))
	worker.LogFile, worker.PIDFile = dir.Log("worker"), dir.PIDFile("worker")
	worker.Prepare, worker.Ready = workerPolls(state.TemporalAddress, cfg.TaskQueue)
	return state, supervisor.Start(ctx, worker)
}

// nextPort is the address with the port after it; empty if the address is.
func nextPort(address string) string {
	host, port, err := net.SplitHostPort(address)
	number, err2 := strconv.Atoi(port)
	if err != nil || err2 != nil || number == 0 {
		return address // such as none, or one whose port the kernel chooses
	}
	return net.JoinHostPort(host, strconv.Itoa(number+1))
}

// ownTemporalAddress is that of the stack's own Temporal; temporalAddress that
// of the one to use.
func ownTemporalAddress(cfg config.Config) string {
	return devstack.Temporal{Port: cfg.DevTemporalPort}.Address()
}

func temporalAddress(cfg config.Config) string {
	if address := os.Getenv("TEMPORAL_ADDRESS"); address != "" {
		return address
	}
	return ownTemporalAddress(cfg)
}

// variable is one of the environment.
type variable struct{ name, value string }

// environment is what makes a process one of the stack's.
func environment(cfg config.Config, dir devstack.Dir) []variable {
	allowed := "127.0.0.1/32" // the sample photos are there
	if len(cfg.SourceAllowCIDRs) > 0 {
		allowed = os.Getenv("SOURCE_ALLOW_CIDRS")
	}
	return []variable{
		{"DATA_DIR", dir.Root},
		{"DATABASE_URL", cfg.DatabaseURL},
		{"TEMPORAL_ADDRESS", temporalAddress(cfg)},
		{"HTTP_ADDR", cfg.HTTPAddr},
		{"SOURCE_ALLOW_CIDRS", allowed},
	}
}

// start starts a server of the stack's own.
func start(ctx context.Context, supervisor *devstack.Supervisor, server interface {
	Process() (devstack.Process, error)
}) error {
	process, err := server.Process()
	if err != nil {
		return err
	}
	return supervisor.Start(ctx, process)
}

// serveSamples serves the sample photos from this process.
func serveSamples(ctx context.Context, cfg config.Config, dir devstack.Dir) error {
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(cfg.DevSamplesPort))
	if err := devstack.CheckPort(address, "the sample photos", "DEV_SAMPLES_PORT"); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: samples.Handler(dir.Samples()), ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	go func() { _ = server.Serve(listener) }()
	return nil
}

// visit has the server answer each URL, whatever it answers.
func visit(ctx context.Context, urls []string) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, url := range urls {
		group.Go(func() error {
			req, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
			if err != nil {
				return err
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			return resp.Body.Close()
		})
	}
	return group.Wait()
}

// isReady asks the API whether it is.
func isReady(ctx context.Context, apiURL string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, apiURL+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("/readyz answered %d", resp.StatusCode)
	}
	return nil
}

// workerPolls tells that a worker is ready by what Temporal knows: that one
// has asked for tasks since it was started.
func workerPolls(address, taskQueue string) (prepare, ready func(context.Context) error) {
	var started time.Time
	prepare = func(context.Context) error {
		started = time.Now()
		return nil
	}
	ready = func(ctx context.Context) error {
		temporal, err := client.DialContext(ctx, client.Options{HostPort: address, Logger: quiet{}})
		if err != nil {
			return err
		}
		defer temporal.Close()
		queue, err := temporal.DescribeTaskQueue(ctx, taskQueue, enumspb.TASK_QUEUE_TYPE_ACTIVITY)
		if err != nil {
			return err
		}
		for _, poller := range queue.GetPollers() {
			if poller.GetLastAccessTime().AsTime().After(started) {
				return nil
			}
		}
		return errors.New("no worker has asked for tasks yet")
	}
	return prepare, ready
}

// quiet is for a client whose errors are looked at, not logged.
type quiet struct{}

func (quiet) Debug(string, ...any) {}
func (quiet) Info(string, ...any)  {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}

func describe(w io.Writer, state devstack.State, dir devstack.Dir) {
	ui := state.TemporalUIURL
	if ui == "" {
		ui = "(that of the Temporal which TEMPORAL_ADDRESS names)"
	}
	fmt.Fprintf(w, `photo-processor is ready.
  API              %s
  Temporal Web UI  %s
  Temporal         %s
  sample photos    %s
  data and logs    %s
`, state.APIURL, ui, state.TemporalAddress, state.SamplesURL, dir.Root)
}

func devStart(cmd *cobra.Command, _ config.Config, dir devstack.Dir) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), startTime)
	defer cancel()
	_, err = devstack.Detach(ctx, dir, []string{self, "dev"}, os.Environ(), cmd.OutOrStdout())
	if running, ok := errors.AsType[*devstack.RunningError](err); ok {
		// Or it is just being started by somebody else.
		if _, err := devstack.WaitReady(ctx, dir); err != nil {
			return fmt.Errorf("somebody else has begun to start it: %w", err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "photo-processor runs already (process %d). “make status” tells where; “make stop” stops it.\n", running.PID)
		return nil
	}
	if cmd.Context().Err() != nil {
		return errors.New("interrupted; nothing is left running")
	}
	return err
}

func devStop(cmd *cobra.Command, _ config.Config, dir devstack.Dir) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), stopTime)
	defer cancel()
	err := devstack.Stop(ctx, dir)
	if errors.Is(err, devstack.ErrNotRunning) {
		fmt.Fprintln(cmd.OutOrStdout(), "photo-processor is not running.")
		return nil
	}
	if err == nil {
		fmt.Fprintln(cmd.OutOrStdout(), "photo-processor has stopped; its data is kept in", dir.Root)
	}
	return err
}

func devStatus(cmd *cobra.Command, _ config.Config, dir devstack.Dir) error {
	out := cmd.OutOrStdout()
	status, err := dir.Status()
	if err != nil {
		return err
	}
	if status.PID == 0 {
		fmt.Fprintln(out, "photo-processor is not running. “make start” starts it.")
		return errSilent
	}
	if status.State == nil {
		fmt.Fprintf(out, "photo-processor is starting or stopping (process %d).\n", status.PID)
		return errSilent
	}
	describe(out, *status.State, dir)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, process := range status.Processes {
		pid := "not running; it is started again"
		if process.PID != 0 {
			pid = "process " + strconv.Itoa(process.PID)
		}
		fmt.Fprintf(table, "  %s\t%s\t%s\n", process.Name, pid, dir.Log(process.Name))
	}
	return table.Flush()
}

func devEnv(cmd *cobra.Command, cfg config.Config, dir devstack.Dir) error {
	for _, variable := range environment(cfg, dir) {
		fmt.Fprintf(cmd.OutOrStdout(), "export %s='%s'\n", variable.name, variable.value)
	}
	return nil
}

// devSchema resets the database of the running stack, and loads the samples.
func devSchema(cmd *cobra.Command, cfg config.Config, dir devstack.Dir, force bool) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	state, err := dir.ReadState()
	if errors.Is(err, devstack.ErrNotRunning) {
		return errors.New("photo-processor is not running; start it first: make start")
	} else if err != nil {
		return err
	}
	if own := (devstack.Postgres{Dir: dir}).DSN(); state.DatabaseURL != own && !force {
		return errors.New("DATABASE_URL names a database that is not this stack's own; --force drops its photos all the same")
	}
	db, err := postgres.Open(state.DatabaseURL, 2)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := db.Reset(ctx); err != nil {
		return err
	}
	if err := os.RemoveAll(dir.Thumbnails()); err != nil {
		return fmt.Errorf("remove the files of the photos that are gone: %w", err)
	}
	urls := samples.URLs(state.SamplesURL)
	photos, err := db.AddPhotos(ctx, urls)
	if err != nil {
		return err
	}
	// Drawn now, once and for all, they are there at once when they are fetched.
	fmt.Fprintln(out, "Drawing the sample photos …")
	if err := visit(ctx, urls); err != nil {
		return err
	}
	fmt.Fprintln(out, "The schema is new, and has these photos, all pending:")
	for _, p := range photos {
		fmt.Fprintf(out, "  %s  %s\n", p.UUID, p.URL)
	}
	return nil
}
