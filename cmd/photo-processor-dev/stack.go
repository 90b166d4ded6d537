package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"golang.org/x/sync/errgroup"

	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/devstack"
	"github.com/photo-processor/photo-processor/internal/health"
)

// stack is the stack of a data directory.
type stack struct {
	settings
	dir        devstack.Dir
	cfg        config.Config
	temporal   client.Options
	postgres   devstack.Postgres // its own
	supervisor devstack.Supervisor
}

// loadStack returns the cluster if that runs, else the usual stack.
func loadStack(ctx context.Context) (*stack, error) {
	dir, err := dataDir()
	if err != nil {
		return nil, err
	}
	cluster, err := dir.Cluster().Status(ctx)
	if err != nil {
		return nil, err
	}
	if cluster.PID != 0 {
		dir = dir.Cluster()
	}
	return newStack(dir)
}

// loadStackToStart returns the usual stack or the cluster, to be started.
func loadStackToStart(ctx context.Context, cluster bool) (*stack, error) {
	dir, err := dataDir()
	if err != nil {
		return nil, err
	}
	switch {
	case dir.IsCluster(): // DATA_DIR is the cluster's own directory, as "env" prints it
	case cluster:
		err = refuseWhileRunning(ctx, dir, "the usual stack")
		dir = dir.Cluster()
		if err == nil {
			err = dir.CreateCluster()
		}
	default:
		err = refuseWhileRunning(ctx, dir.Cluster(), "the cluster")
	}
	if err != nil {
		return nil, err
	}
	return newStack(dir)
}

func dataDir() (devstack.Dir, error) { return devstack.NewDir(os.Getenv("DATA_DIR")) }

// refuseWhileRunning returns an error if the other stack runs, which uses the
// same ports.
func refuseWhileRunning(ctx context.Context, dir devstack.Dir, name string) error {
	status, err := dir.Status(ctx)
	if err == nil && status.PID != 0 {
		err = fmt.Errorf("%s runs (process %d); stop it first: make stop", name, status.PID)
	}
	return err
}

func (s *stack) ownTemporal() string { return devstack.Temporal{Port: s.TemporalPort}.Address() }

func (s *stack) usesOwnTemporal() bool { return s.temporal.HostPort == s.ownTemporal() }

// install builds the programs that the stack needs and this machine lacks.
func (s *stack) install(ctx context.Context, out io.Writer) (err error) {
	if !s.usesOwnTemporal() {
		return nil
	}
	if s.dir.IsCluster() {
		_, err = devstack.InstallTemporalServer(ctx, out)
	} else {
		_, err = devstack.TemporalCLI(ctx, out)
	}
	return err
}

// start starts one process after the other, each when those it needs are ready.
func (s *stack) start(ctx context.Context, out io.Writer) (devstack.State, error) {
	state := devstack.State{
		APIURL: "http://" + s.cfg.HTTPAddr, DatabaseURL: s.cfg.DatabaseURL, TemporalAddress: s.temporal.HostPort,
		SamplesURL: "http://" + s.samplesAddress(),
	}
	var err error
	if state.Settings, err = readSettings(); err != nil {
		return state, err
	}
	if err := s.checkAPIPort(ctx); err != nil {
		return state, err
	}
	if err := devstack.CheckPort(s.samplesAddress(), "the sample photos", "DEV_SAMPLES_PORT"); err != nil {
		return state, err
	}
	listener, err := net.Listen("tcp", s.samplesAddress())
	if err != nil {
		return state, err
	}
	// Until this process exits: workers that are stopping finish their photos.
	go func() {
		if err := serveSamples(context.WithoutCancel(ctx), listener, s.dir.Samples()); err != nil {
			s.supervisor.Log.Error("the sample photos are no longer served", "error", err)
		}
	}()

	state.OwnDatabase = s.cfg.DatabaseURL == s.postgres.DSN()
	if !state.OwnDatabase {
		fmt.Fprintln(out, "Using the PostgreSQL that DATABASE_URL names …")
	}
	if state.OwnDatabase || s.usesOwnTemporal() && s.dir.IsCluster() {
		fmt.Fprintln(out, "Starting PostgreSQL …")
		if err := s.supervise(ctx, s.postgres.Process); err != nil {
			return state, err
		}
	}
	switch {
	case !s.usesOwnTemporal():
		fmt.Fprintf(out, "Using the Temporal at %s …\n", s.temporal.HostPort)
		err = s.waitForTemporal(ctx)
	case s.dir.IsCluster():
		state.TemporalUIURL, err = s.startTemporalServer(ctx, out)
	default:
		state.TemporalUIURL, err = s.startTemporal(ctx, out)
	}
	if err != nil {
		return state, err
	}
	return state, s.startServices(ctx, out)
}

func (s *stack) samplesAddress() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.SamplesPort))
}

func (s *stack) checkAPIPort(context.Context) error {
	return devstack.CheckPort(s.cfg.HTTPAddr, "the API", "HTTP_ADDR")
}

func (s *stack) supervise(ctx context.Context, describe func() (devstack.Process, error)) error {
	process, err := describe()
	if err != nil {
		return err
	}
	return s.supervisor.Start(ctx, process)
}

// waitForTemporal waits for a Temporal that is not the stack's own. Its error
// says why that will not work.
func (s *stack) waitForTemporal(ctx context.Context) error {
	temporal, err := client.NewLazyClient(s.temporal)
	if err != nil {
		return err
	}
	defer temporal.Close()
	return config.WaitForTemporal(ctx, s.supervisor.Log, temporal, s.temporal)
}

// startTemporal starts the development server and returns the URL of its UI.
func (s *stack) startTemporal(ctx context.Context, out io.Writer) (string, error) {
	cli, err := devstack.TemporalCLI(ctx, out)
	if err != nil {
		return "", err
	}
	fmt.Fprintln(out, "Starting Temporal …")
	temporal := devstack.Temporal{Dir: s.dir, CLI: cli, Port: s.TemporalPort, UIPort: s.TemporalUIPort}
	return temporal.UIURL(), s.supervise(ctx, temporal.Process)
}

// startTemporalServer starts the production server and its UI, whose URL it
// returns.
func (s *stack) startTemporalServer(ctx context.Context, out io.Writer) (string, error) {
	programs, err := devstack.InstallTemporalServer(ctx, out)
	if err != nil {
		return "", err
	}
	temporal := devstack.TemporalServer{
		Dir: s.dir, Programs: programs, Postgres: s.postgres,
		Port: s.TemporalPort, UIPort: s.TemporalUIPort, MetricsPort: s.TemporalMetricsPort,
	}
	temporal.Init()
	fmt.Fprintln(out, "Starting Temporal's server …")
	if err := s.supervisor.Start(ctx, temporal.Process()); err != nil {
		return "", err
	}
	return temporal.UIURL(), s.supervisor.Start(ctx, temporal.UIProcess())
}

// startServices starts the API and the workers.
func (s *stack) startServices(ctx context.Context, out io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	service := func(name, command string) devstack.Process {
		return devstack.Process{
			Name: name, Path: filepath.Join(filepath.Dir(self), "photo-processor"), Args: []string{command}, Env: os.Environ(),
			LogFile: s.dir.Log(name), PIDFile: s.dir.PIDFile(name),
			StopTimeout: serviceStopTimeout(s.cfg),
		}
	}
	workers := []string{"worker"}
	if s.Workers > 1 {
		workers = nil
		for i := range s.Workers {
			workers = append(workers, fmt.Sprintf("worker-%d", i+1))
		}
	}
	fmt.Fprintf(out, "Starting the API and %s …\n", strings.Join(workers, ", "))
	api := service("api", "api")
	api.Prepare = s.checkAPIPort
	api.Ready = func(ctx context.Context) error { return health.Get(ctx, "http://"+s.cfg.HTTPAddr) }
	if err := s.supervisor.Start(ctx, api); err != nil {
		return err
	}
	metricsAddr := s.cfg.MetricsAddr
	for _, name := range workers {
		metricsAddr = nextPort(metricsAddr)
		worker := service(name, "worker")
		worker.Env = append(worker.Env, "METRICS_ADDR="+metricsAddr)
		worker.Ready = func(ctx context.Context) error { return s.isPolling(ctx, worker.PIDFile) }
		if err := s.supervisor.Start(ctx, worker); err != nil {
			return err
		}
	}
	return nil
}

// serviceStopTimeout is how long the API or a worker may take to stop.
func serviceStopTimeout(cfg config.Config) time.Duration { return cfg.ShutdownTimeout + 10*time.Second }

// nextPort returns the address with the next port, so that the processes of one
// machine do not share one; an empty address stays empty.
func nextPort(address string) string {
	host, port, err := net.SplitHostPort(address)
	number, err2 := strconv.Atoi(port)
	if err != nil || err2 != nil || number == 0 {
		return address
	}
	return net.JoinHostPort(host, strconv.Itoa(number+1))
}

// isPolling returns nil once Temporal lists the process among the workers that
// poll the task queue. The SDK's identity of a worker begins with its PID.
func (s *stack) isPolling(ctx context.Context, pidFile string) error {
	pid, err := os.ReadFile(pidFile)
	if err != nil {
		return err
	}
	temporal, err := client.DialContext(ctx, s.temporal)
	if err != nil {
		return err
	}
	defer temporal.Close()
	queue, err := temporal.DescribeTaskQueue(ctx, s.cfg.TaskQueue, enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	if err != nil {
		return err
	}
	identity := string(bytes.TrimSpace(pid)) + "@"
	for _, poller := range queue.GetPollers() {
		if strings.HasPrefix(poller.GetIdentity(), identity) {
			return nil
		}
	}
	return errors.New("it does not poll the task queue yet")
}

// fetchAll requests all URLs and ignores what is answered.
func fetchAll(ctx context.Context, urls []string) error {
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
