package devstack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	temporalconfig "github.com/photo-processor/photo-processor/temporal-config"
)

const (
	// temporalServerReadyTimeout covers the making of the schema, too.
	temporalServerReadyTimeout = 2 * time.Minute

	// temporalServerStopTimeout is how long the server's four services may take to leave. Killing it does no harm, though.
	temporalServerStopTimeout = 20 * time.Second
)

// TemporalServer is Temporal's server as it runs in production, on PostgreSQL, with the settings of package temporalconfig: what
// docker-compose.yml runs, without Docker. It listens on 127.0.0.1 alone.
type TemporalServer struct {
	Dir      Dir
	Programs TemporalPrograms

	// Postgres has its databases. It must listen on TCP, and be ready before the server is started.
	Postgres Postgres

	// Port is where clients and workers connect, UIPort where the Web UI is, MetricsPort where Prometheus finds the server's.
	Port, UIPort, MetricsPort int

	// passwords are those of PostgreSQL's roles, for as long as this server runs: they are set anew at each of its starts.
	passwords map[string]string

	// internalPorts are where the server's services talk to each other.
	internalPorts []string
}

// temporalInternalPorts are the variables of server.yaml for the ports that only the server itself uses. The server keeps some of
// them in its database, in columns of type smallint.
var temporalInternalPorts = []string{
	"FRONTEND_HTTP_PORT", "FRONTEND_MEMBERSHIP_PORT", "HISTORY_GRPC_PORT", "HISTORY_MEMBERSHIP_PORT",
	"MATCHING_GRPC_PORT", "MATCHING_MEMBERSHIP_PORT", "WORKER_GRPC_PORT", "WORKER_MEMBERSHIP_PORT",
}

const maxSmallint = 1<<15 - 1

// Init chooses passwords and free ports. It must be called before the other methods.
func (t *TemporalServer) Init() (err error) {
	t.passwords = map[string]string{}
	for _, variable := range []string{"PHOTOS_PASSWORD", "TEMPORAL_PASSWORD", "TEMPORAL_VISIBILITY_PASSWORD"} {
		t.passwords[variable] = rand.Text()
	}
	t.internalPorts, err = t.choosePorts()
	return err
}

// choosePorts takes those of the last start again, if it can: the server finds them in its database, and looks for itself there until
// it gives up after half a minute.
func (t *TemporalServer) choosePorts() ([]string, error) {
	if err := t.Dir.Create(); err != nil {
		return nil, err
	}
	path := filepath.Join(t.Dir.Root, "temporal-ports")
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if ports := strings.Fields(string(text)); len(ports) == len(temporalInternalPorts) && areFree(ports) {
		return ports, nil
	}
	var ports []string
	for _, variable := range temporalInternalPorts {
		port, err := FreePortUpTo(maxSmallint)
		if err != nil {
			return nil, err
		}
		ports = append(ports, fmt.Sprintf("%s=%d", variable, port))
	}
	return ports, writeFile(path, []byte(strings.Join(ports, "\n")+"\n"))
}

// areFree tells whether nobody listens on the ports, each of which follows the name of its variable.
func areFree(ports []string) bool {
	for _, assignment := range ports {
		variable, port, _ := strings.Cut(assignment, "=")
		if CheckPort(net.JoinHostPort(loopback, port), "Temporal", variable) != nil {
			return false
		}
	}
	return true
}

// Address is the host and port for clients and workers.
func (t *TemporalServer) Address() string { return net.JoinHostPort(loopback, strconv.Itoa(t.Port)) }

// UIURL is the address of the Web UI.
func (t *TemporalServer) UIURL() string { return "http://" + t.uiAddress() }

func (t *TemporalServer) uiAddress() string {
	return net.JoinHostPort(loopback, strconv.Itoa(t.UIPort))
}

func (t *TemporalServer) metricsAddress() string {
	return net.JoinHostPort(loopback, strconv.Itoa(t.MetricsPort))
}

// Process describes the server.
func (t *TemporalServer) Process() Process {
	return Process{
		Name:         "temporal",
		Path:         t.Programs.Server,
		Args:         []string{"start"},
		Env:          t.env(),
		Dir:          t.Dir.Root,
		LogFile:      t.Dir.Log("temporal"),
		PIDFile:      t.Dir.PIDFile("temporal"),
		Prepare:      t.prepare,
		Ready:        t.ready,
		ReadyTimeout: temporalServerReadyTimeout,
		StopTimeout:  temporalServerStopTimeout,
	}
}

// UIProcess describes the server of the Web UI.
func (t *TemporalServer) UIProcess() Process {
	return Process{
		Name:    "temporal-ui",
		Path:    t.Programs.UI,
		Args:    []string{"--root", t.Dir.Root, "--config", filepath.Base(t.config("")), "--env", "ui", "start"},
		Env:     t.env(),
		Dir:     t.Dir.Root,
		LogFile: t.Dir.Log("temporal-ui"),
		PIDFile: t.Dir.PIDFile("temporal-ui"),
		Prepare: func(context.Context) error {
			return CheckPort(t.uiAddress(), "Temporal's Web UI", "DEV_TEMPORAL_UI_PORT")
		},
		Ready: func(ctx context.Context) error {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", t.uiAddress())
			if err != nil {
				return err
			}
			return conn.Close()
		},
	}
}

// config is where one of package temporalconfig's files is for the server.
func (t *TemporalServer) config(name string) string {
	return filepath.Join(t.Dir.Root, "temporal-config", name)
}

// env is for the server, its Web UI and the scripts of package temporalconfig: what docker-compose.yml gives to each of them.
func (t *TemporalServer) env() []string {
	var path []string
	for _, program := range []string{t.Programs.SQLTool, t.Programs.CLI} {
		path = append(path, filepath.Dir(program))
	}
	env := []string{
		"HOME=" + t.Dir.Root,
		"PATH=" + strings.Join(append(path, os.Getenv("PATH")), string(os.PathListSeparator)),
		"TMPDIR=" + os.TempDir(),

		"TEMPORAL_SERVER_CONFIG_FILE_PATH=" + t.config("server.yaml"),
		"DYNAMIC_CONFIG_FILE_PATH=" + t.config("dynamicconfig.yaml"),
		"TEMPORAL_ALLOW_NO_AUTH=true",
		"BIND_ON_IP=" + loopback,
		"FRONTEND_GRPC_PORT=" + strconv.Itoa(t.Port),
		"PROMETHEUS_ENDPOINT=" + t.metricsAddress(),
		"POSTGRES_SEEDS=" + loopback,
		"DB_PORT=" + strconv.Itoa(t.Postgres.port()),
		"POSTGRES_PWD=" + t.passwords["TEMPORAL_PASSWORD"],
		"VISIBILITY_POSTGRES_PWD=" + t.passwords["TEMPORAL_VISIBILITY_PASSWORD"],
		"GOGC=400", // see docker-compose.yml

		"SQL_HOST=" + loopback,
		"SQL_PORT=" + strconv.Itoa(t.Postgres.port()),

		"TEMPORAL_ADDRESS=" + t.Address(),
		"TEMPORAL_NAMESPACE=" + temporalNamespace,
		"TEMPORAL_RETENTION=" + retentionWanted.String(),
		"TEMPORAL_UI_HOST=" + loopback,
		"TEMPORAL_UI_PORT=" + strconv.Itoa(t.UIPort),
	}
	for variable, password := range t.passwords {
		env = append(env, variable+"="+password)
	}
	return append(env, t.internalPorts...)
}

// prepare makes the databases and their schemas, or brings them up to date.
func (t *TemporalServer) prepare(ctx context.Context) error {
	for what, address := range map[[2]string]string{
		{"Temporal", "DEV_TEMPORAL_PORT"}:                   t.Address(),
		{"Temporal's metrics", "DEV_TEMPORAL_METRICS_PORT"}: t.metricsAddress(),
	} {
		if err := CheckPort(address, what[0], what[1]); err != nil {
			return err
		}
	}
	if err := t.writeConfig(); err != nil {
		return err
	}
	if err := t.makeDatabases(ctx); err != nil {
		return err
	}
	return t.run(ctx, exec.Command("/bin/sh", t.config("schema.sh")))
}

func (t *TemporalServer) makeDatabases(ctx context.Context) error {
	return t.run(ctx, exec.Command("psql", "--no-psqlrc", "--quiet", "--file", t.config("databases.sql"), t.Postgres.DSN()))
}

// run runs one of the steps that docker-compose.yml has containers of their own for.
func (t *TemporalServer) run(ctx context.Context, cmd *exec.Cmd) error {
	cmd.Dir = t.Dir.Root
	cmd.Env = t.env()
	return run(ctx, cmd)
}

func (t *TemporalServer) writeConfig() error {
	if err := os.MkdirAll(t.config(""), 0o755); err != nil {
		return err
	}
	return fs.WalkDir(temporalconfig.Files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := temporalconfig.Files.ReadFile(name)
		if err != nil {
			return err
		}
		return writeFile(t.config(name), content)
	})
}

// ready makes the namespace as soon as the server answers, and returns nil once workflows can be started in it.
func (t *TemporalServer) ready(ctx context.Context) error {
	c, err := temporalClient(t.Address())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := answers(ctx, c); err != nil {
		return err
	}
	if err := t.run(ctx, exec.Command("/bin/sh", t.config("namespace.sh"))); err != nil {
		return err
	}
	return servesWorkflows(ctx, c)
}
