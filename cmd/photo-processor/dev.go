package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
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
	// startTime bounds a start of the whole stack. Building Temporal's programs,
	// once on a machine, takes minutes of it.
	startTime = 30 * time.Minute
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

With --cluster it is Temporal's production server on PostgreSQL, and three
workers, as in docker-compose.yml. This keeps its data apart, in
DATA_DIR/cluster. Either the one or the other can run.

With DATABASE_URL or TEMPORAL_ADDRESS set, those are used instead.`,
		Args: cobra.NoArgs,
		RunE: withDir(runDev),
	}
	start := &cobra.Command{Use: "start", Short: "Run everything in the background, and return when it is ready", Args: cobra.NoArgs, RunE: withDir(devStart)}
	for _, command := range []*cobra.Command{dev, start} {
		command.Flags().Bool(clusterFlag, false, "run Temporal's production server and three workers")
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
		start,
		&cobra.Command{Use: "stop", Short: "Stop what start has started; all data is kept", Args: cobra.NoArgs, RunE: withDir(devStop)},
		&cobra.Command{Use: "status", Short: "Tell what runs, and where", Args: cobra.NoArgs, RunE: withDir(devStatus)},
		&cobra.Command{Use: "env", Short: "Print the variables with which api and worker use this stack", Args: cobra.NoArgs, RunE: withDir(devEnv)},
		schema,
	)
	return dev
}

// clusterFlag asks for the production server, in a data directory of its own.
const clusterFlag = "cluster"

// withDir gives the command the data directory that it is about, and the
// configuration that goes with it. That is the cluster's, below DATA_DIR, if it
// is to be started or if it runs.
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
		if dir.IsCluster() { // as "dev env" names it
			return run(cmd, cfg, dir)
		}
		usual, cluster := dir, dir.Cluster()
		flag := cmd.Flags().Lookup(clusterFlag) // of those commands that start a stack
		toStart := flag != nil && flag.Changed
		switch {
		case toStart:
			if err = refuseWhileRunning(usual); err == nil {
				err = cluster.MakeCluster()
			}
		case flag != nil:
			err = refuseWhileRunning(cluster)
		}
		if err != nil {
			return err
		}
		status, err := cluster.Status()
		if err != nil {
			return err
		}
		if !toStart && status.PID == 0 {
			return run(cmd, cfg, usual)
		}
		// Also for the processes that are started.
		if err := os.Setenv("DATA_DIR", cluster.Root); err != nil {
			return err
		}
		if cfg, err = config.Load(); err != nil {
			return err
		}
		return run(cmd, cfg, cluster)
	}
}

// refuseWhileRunning keeps the usual stack and the cluster from running at the
// same time: they would want the same ports.
func refuseWhileRunning(other devstack.Dir) error {
	status, err := other.Status()
	if err != nil || status.PID == 0 {
		return err
	}
	what := "the usual stack"
	if other.IsCluster() {
		what = "the cluster"
	}
	return fmt.Errorf("%s runs (process %d); stop it first: make stop", what, status.PID)
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
	temporal, err := temporalOptions(cfg)
	if err != nil {
		return devstack.State{}, err
	}
	state := devstack.State{
		APIURL:          "http://" + cfg.HTTPAddr,
		DatabaseURL:     cfg.DatabaseURL,
		TemporalAddress: temporal.HostPort,
		SamplesURL:      fmt.Sprintf("http://127.0.0.1:%d", cfg.DevSamplesPort),
	}
	if _, err := os.Stat(dir.PIDFile("api")); err != nil { // else it may be an orphan's, which is ended below
		if err := freePort(cfg); err != nil {
			return state, err
		}
	}
	samplesAddress := net.JoinHostPort("127.0.0.1", strconv.Itoa(cfg.DevSamplesPort))
	if err := devstack.CheckPort(samplesAddress, "the sample photos", "DEV_SAMPLES_PORT"); err != nil {
		return state, err
	}
	listener, err := net.Listen("tcp", samplesAddress)
	if err != nil {
		return state, err
	}
	go func() { _ = serveSamples(ctx, listener, dir) }()
	// Variables that name the stack's own servers, as "dev env" prints them, are
	// as good as none.
	own := devstack.Postgres{Dir: dir, Port: cfg.DevPostgresPort, TCP: dir.IsCluster()}
	ownDatabase, ownTemporal := state.DatabaseURL == own.DSN(), state.TemporalAddress == ownTemporalAddress(cfg)
	if !ownDatabase {
		fmt.Fprintln(out, "Using the PostgreSQL that DATABASE_URL names …")
	}
	if ownDatabase || ownTemporal && dir.IsCluster() {
		fmt.Fprintln(out, "Starting PostgreSQL …")
		if err := start(ctx, supervisor, own); err != nil {
			return state, err
		}
	}
	switch {
	case state.TemporalAddress != ownTemporalAddress(cfg):
		fmt.Fprintf(out, "Using the Temporal at %s …\n", state.TemporalAddress)
		err = awaitTemporal(ctx, temporal, supervisor.Log)
	case dir.IsCluster():
		state.TemporalUIURL, err = startTemporalServer(ctx, out, cfg, dir, own, supervisor)
	default:
		state.TemporalUIURL, err = startTemporal(ctx, out, cfg, dir, supervisor)
	}
	if err != nil {
		return state, err
	}
	return state, startServices(ctx, out, cfg, dir, state, temporal, supervisor)
}

// awaitTemporal waits for somebody else's Temporal. Should it never let us in,
// the error says why, where a process that is started would only end.
func awaitTemporal(ctx context.Context, options client.Options, log *slog.Logger) error {
	temporal, err := client.NewLazyClient(options)
	if err != nil {
		return err
	}
	defer temporal.Close()
	return config.TemporalWhenUp(ctx, log, temporal, options)
}

// startTemporal starts the development server, and gives the URL of its UI.
func startTemporal(ctx context.Context, out io.Writer, cfg config.Config, dir devstack.Dir, supervisor *devstack.Supervisor) (string, error) {
	cli, err := devstack.TemporalCLI(ctx, out)
	if err != nil {
		return "", err
	}
	temporal := devstack.Temporal{Dir: dir, CLI: cli, Port: cfg.DevTemporalPort, UIPort: cfg.DevTemporalUIPort}
	fmt.Fprintln(out, "Starting Temporal …")
	return temporal.UIURL(), start(ctx, supervisor, temporal)
}

// startTemporalServer starts the production server and its UI, and gives the
// URL of that.
func startTemporalServer(ctx context.Context, out io.Writer, cfg config.Config, dir devstack.Dir, postgres devstack.Postgres, supervisor *devstack.Supervisor) (string, error) {
	programs, err := devstack.InstallTemporalServer(ctx, out)
	if err != nil {
		return "", err
	}
	temporal := devstack.TemporalServer{
		Dir: dir, Programs: programs, Postgres: postgres,
		Port: cfg.DevTemporalPort, UIPort: cfg.DevTemporalUIPort, MetricsPort: cfg.DevTemporalMetricsPort,
	}
	if err := temporal.Init(); err != nil {
		return "", err
	}
	fmt.Fprintln(out, "Starting Temporal's server …")
	if err := supervisor.Start(ctx, temporal.Process()); err != nil {
		return "", err
	}
	return temporal.UIURL(), supervisor.Start(ctx, temporal.UIProcess())
}

// startServices starts the API and the workers.
func startServices(ctx context.Context, out io.Writer, cfg config.Config, dir devstack.Dir, state devstack.State, temporal client.Options, supervisor *devstack.Supervisor) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	env := os.Environ()
	for _, variable := range environment(cfg, dir, temporal) {
		env = append(env, variable.name+"="+variable.value)
	}
	service := func(name, command string) devstack.Process {
		return devstack.Process{
			Name: name, Path: self, Args: []string{command}, Env: env,
			LogFile: dir.Log(name), PIDFile: dir.PIDFile(name),
			StopTimeout: cfg.ShutdownTimeout + 10*time.Second,
		}
	}

	workers := []string{"worker"}
	if dir.IsCluster() {
		workers = []string{"worker-1", "worker-2", "worker-3"}
	}
	fmt.Fprintf(out, "Starting the API and %s …\n", strings.Join(workers, ", "))
	api := service("api", "api")
	api.Prepare = func(context.Context) error { return freePort(cfg) }
	api.Ready = func(ctx context.Context) error { return isReady(ctx, state.APIURL) }
	if err := supervisor.Start(ctx, api); err != nil {
		return err
	}
	metricsAddr := cfg.MetricsAddr
	for _, name := range workers {
		worker := service(name, "worker")
		metricsAddr = nextPort(metricsAddr)
		worker.Env = append(slices.Clip(env), "METRICS_ADDR="+metricsAddr)
		worker.Prepare, worker.Ready = workerPolls(temporal, cfg.TaskQueue)
		if err := supervisor.Start(ctx, worker); err != nil {
			return err
		}
	}
	return nil
}

// freePort tells whether the API can have its port.
func freePort(cfg config.Config) error {
	return devstack.CheckPort(cfg.HTTPAddr, "the API", "HTTP_ADDR")
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

// ownTemporalAddress is that of the stack's own Temporal.
func ownTemporalAddress(cfg config.Config) string {
	return devstack.Temporal{Port: cfg.DevTemporalPort}.Address()
}

// temporalOptions are those of the Temporal to use: the stack's own unless the
// environment names another. A developer's default profile does not: it may be
// of a Temporal that nobody wants to try things out with, so that the stack's
// processes must not see it either.
func temporalOptions(cfg config.Config) (client.Options, error) {
	if os.Getenv("TEMPORAL_ADDRESS")+os.Getenv("TEMPORAL_PROFILE")+os.Getenv("TEMPORAL_CONFIG_FILE") == "" {
		if err := os.Setenv("TEMPORAL_CONFIG_FILE", os.DevNull); err != nil {
			return client.Options{}, err
		}
	}
	options, err := config.Temporal(slog.New(slog.DiscardHandler))
	if options.HostPort == "" {
		options.HostPort = ownTemporalAddress(cfg)
	}
	return options, err
}

// variable is one of the environment.
type variable struct{ name, value string }

// environment is what makes a process one of the stack's.
func environment(cfg config.Config, dir devstack.Dir, temporal client.Options) []variable {
	allowed := "127.0.0.1/32" // the sample photos are there
	if len(cfg.SourceAllowCIDRs) > 0 {
		allowed = os.Getenv("SOURCE_ALLOW_CIDRS")
	}
	return []variable{
		{"DATA_DIR", dir.Root},
		{"DATABASE_URL", cfg.DatabaseURL},
		{"TEMPORAL_ADDRESS", temporal.HostPort},
		{"TEMPORAL_CONFIG_FILE", os.Getenv("TEMPORAL_CONFIG_FILE")},
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

// isReady asks an API or a worker whether it is. The error has what is missing.
func isReady(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		answer, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
		return fmt.Errorf("/readyz answered %d: %s", resp.StatusCode, bytes.TrimSpace(answer))
	}
	return nil
}

// workerPolls tells that a worker is ready by what Temporal knows: that one
// has asked for tasks which had not done so before.
func workerPolls(options client.Options, taskQueue string) (prepare, ready func(context.Context) error) {
	var before []string
	prepare = func(ctx context.Context) (err error) {
		before, err = pollers(ctx, options, taskQueue)
		return err
	}
	ready = func(ctx context.Context) error {
		now, err := pollers(ctx, options, taskQueue)
		if err != nil {
			return err
		}
		isNew := func(identity string) bool { return !slices.Contains(before, identity) }
		if !slices.ContainsFunc(now, isNew) {
			return errors.New("no new worker has asked for tasks yet")
		}
		return nil
	}
	return prepare, ready
}

// pollers gives the identities of the workers that have lately asked for tasks.
// Each process has one of its own.
func pollers(ctx context.Context, options client.Options, taskQueue string) (identities []string, err error) {
	temporal, err := client.DialContext(ctx, options)
	if err != nil {
		return nil, err
	}
	defer temporal.Close()
	queue, err := temporal.DescribeTaskQueue(ctx, taskQueue, enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	if err != nil {
		return nil, err
	}
	for _, one := range queue.GetPollers() {
		identities = append(identities, one.GetIdentity())
	}
	return identities, nil
}

func describe(w io.Writer, state devstack.State, dir devstack.Dir) {
	ui := state.TemporalUIURL
	if ui == "" {
		ui = "(that of the Temporal which is configured)"
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
	temporal, err := temporalOptions(cfg)
	if err != nil {
		return err
	}
	for _, variable := range environment(cfg, dir, temporal) {
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
	if own := (devstack.Postgres{Dir: dir, Port: cfg.DevPostgresPort}).DSN(); state.DatabaseURL != own && !force {
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
