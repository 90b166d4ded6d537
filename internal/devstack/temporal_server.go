package devstack

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	temporalconfig "github.com/photo-processor/photo-processor/temporal-config"
)

const (
	temporalServerReadyTimeout = 2 * time.Minute // includes creating the schema
	temporalServerStopTimeout  = 20 * time.Second
)

// TemporalServer is Temporal's production server with its data in PostgreSQL
// and the settings of package temporalconfig, as docker-compose.yml runs it. It
// listens on 127.0.0.1 only.
type TemporalServer struct {
	Dir      Dir
	Programs TemporalPrograms

	// Postgres must listen on TCP, and be ready before the server is started.
	Postgres Postgres

	// Port is for clients and workers, UIPort for the Web UI, MetricsPort for
	// Prometheus.
	Port, UIPort, MetricsPort int

	// passwords are those of PostgreSQL's roles, set anew at each start.
	passwords map[string]string
}

// temporalInternalPorts are server.yaml's variables for the ports on which the
// server's services talk to each other.
var temporalInternalPorts = []string{
	"FRONTEND_HTTP_PORT", "FRONTEND_MEMBERSHIP_PORT", "HISTORY_GRPC_PORT", "HISTORY_MEMBERSHIP_PORT",
	"MATCHING_GRPC_PORT", "MATCHING_MEMBERSHIP_PORT", "WORKER_GRPC_PORT", "WORKER_MEMBERSHIP_PORT",
}

// internalPort returns the i-th internal port, from 10,000 to 30,006: the
// server stores some of them in columns of type smallint. A port is the same at
// each start, because the server stores its own addresses and connects to them.
func (t *TemporalServer) internalPort(i int) int { return 10_000 + t.Port%20_000 + i }

// Init chooses the passwords. It must be called first.
func (t *TemporalServer) Init() {
	t.passwords = map[string]string{}
	for _, variable := range []string{"PHOTOS_PASSWORD", "TEMPORAL_PASSWORD", "TEMPORAL_VISIBILITY_PASSWORD"} {
		t.passwords[variable] = rand.Text()
	}
}

// Address is the host and port for clients and workers.
func (t *TemporalServer) Address() string { return t.address(t.Port) }

// UIURL is the URL of the Web UI.
func (t *TemporalServer) UIURL() string { return "http://" + t.address(t.UIPort) }

func (t *TemporalServer) address(port int) string {
	return net.JoinHostPort(loopback, strconv.Itoa(port))
}

// Process describes the server.
func (t *TemporalServer) Process() Process {
	return Process{
		Name: "temporal", Path: t.Programs.Server, Args: []string{"start"}, Env: t.env(), Dir: t.Dir.Root,
		LogFile: t.Dir.Log("temporal"), PIDFile: t.Dir.PIDFile("temporal"),
		Prepare: t.prepare, Ready: t.ready, ReadyTimeout: temporalServerReadyTimeout,
		StopTimeout: temporalServerStopTimeout,
	}
}

// UIProcess describes the server of the Web UI.
func (t *TemporalServer) UIProcess() Process {
	return Process{
		Name: "temporal-ui", Path: t.Programs.UI,
		Args: []string{"--root", t.Dir.Root, "--config", filepath.Base(t.config("")), "--env", "ui", "start"},
		Env:  t.env(), Dir: t.Dir.Root,
		LogFile: t.Dir.Log("temporal-ui"), PIDFile: t.Dir.PIDFile("temporal-ui"),
		Prepare: func(context.Context) error {
			return CheckPort(t.address(t.UIPort), "Temporal's Web UI", "DEV_TEMPORAL_UI_PORT")
		},
		Ready: func(ctx context.Context) error { return listens(ctx, t.address(t.UIPort)) },
	}
}

// config is the path of one of package temporalconfig's files.
func (t *TemporalServer) config(name string) string {
	return filepath.Join(t.Dir.Root, "temporal-config", name)
}

// env is for the server, its Web UI and the scripts of package temporalconfig:
// what docker-compose.yml gives to each of them.
func (t *TemporalServer) env() []string {
	path := []string{filepath.Dir(t.Programs.SQLTool), filepath.Dir(t.Programs.CLI), os.Getenv("PATH")}
	postgresPort := strconv.Itoa(t.Postgres.port())
	env := []string{
		"HOME=" + t.Dir.Root,
		"PATH=" + strings.Join(path, string(os.PathListSeparator)),
		"TMPDIR=" + os.TempDir(),

		"TEMPORAL_SERVER_CONFIG_FILE_PATH=" + t.config("server.yaml"),
		"DYNAMIC_CONFIG_FILE_PATH=" + t.config("dynamicconfig.yaml"),
		"TEMPORAL_ALLOW_NO_AUTH=true",
		"BIND_ON_IP=" + loopback,
		"FRONTEND_GRPC_PORT=" + strconv.Itoa(t.Port),
		"PROMETHEUS_ENDPOINT=" + t.address(t.MetricsPort),
		"POSTGRES_SEEDS=" + loopback,
		"DB_PORT=" + postgresPort,
		"POSTGRES_PWD=" + t.passwords["TEMPORAL_PASSWORD"],
		"VISIBILITY_POSTGRES_PWD=" + t.passwords["TEMPORAL_VISIBILITY_PASSWORD"],
		"GOGC=400", // see docker-compose.yml

		"SQL_HOST=" + loopback,
		"SQL_PORT=" + postgresPort,

		"TEMPORAL_ADDRESS=" + t.Address(),
		"TEMPORAL_NAMESPACE=" + temporalNamespace,
		"TEMPORAL_RETENTION=" + temporalRetention,
		"TEMPORAL_UI_HOST=" + loopback,
		"TEMPORAL_UI_PORT=" + strconv.Itoa(t.UIPort),
	}
	for variable, password := range t.passwords {
		env = append(env, variable+"="+password)
	}
	for i, variable := range temporalInternalPorts {
		env = append(env, fmt.Sprintf("%s=%d", variable, t.internalPort(i)))
	}
	return env
}

// prepare creates the databases and their schemas, or brings them up to date.
func (t *TemporalServer) prepare(ctx context.Context) error {
	if err := CheckPort(t.Address(), "Temporal", "DEV_TEMPORAL_PORT"); err != nil {
		return err
	}
	if err := CheckPort(t.address(t.MetricsPort), "Temporal's metrics", "DEV_TEMPORAL_METRICS_PORT"); err != nil {
		return err
	}
	if err := t.writeConfig(); err != nil {
		return err
	}
	if err := t.createDatabases(ctx); err != nil {
		return err
	}
	return run(ctx, t.env(), t.Dir.Root, nil, "/bin/sh", t.config("schema.sh"))
}

func (t *TemporalServer) createDatabases(ctx context.Context) error {
	return run(ctx, t.env(), t.Dir.Root, nil, "psql", "--no-psqlrc", "--quiet", "--file", t.config("databases.sql"), t.Postgres.DSN())
}

func (t *TemporalServer) writeConfig() error {
	if err := os.RemoveAll(t.config("")); err != nil {
		return err
	}
	return os.CopyFS(t.config(""), temporalconfig.Files)
}

// ready creates the namespace as soon as the frontend answers, and returns nil
// once workflows can be started in it.
func (t *TemporalServer) ready(ctx context.Context) error {
	if err := listens(ctx, t.Address()); err != nil {
		return err
	}
	if err := run(ctx, t.env(), t.Dir.Root, nil, "/bin/sh", t.config("namespace.sh")); err != nil {
		return err
	}
	return temporalReady(ctx, t.Address())
}
