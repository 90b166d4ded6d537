package devstack

import (
	"fmt"
	"math"
	"os/exec"
	"strings"
	"testing"
	"text/template"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	temporalconfig "github.com/photo-processor/photo-processor/temporal-config"
)

// historyShards is the number that databases have been made with.
const historyShards = 128

// newTemporalServer describes a server that is never started; `make
// test-cluster` starts one.
func newTemporalServer(t *testing.T) *TemporalServer {
	t.Helper()
	dir := newTestDir(t)
	port, err := FreePort()
	require.NoError(t, err)
	server := &TemporalServer{Dir: dir, Postgres: Postgres{Dir: dir, Port: port, TCP: true, Disposable: true}}
	server.Init()
	require.NoError(t, server.writeConfig())
	return server
}

// TestDatabases runs databases.sql as a start does, and once more, as the next
// start does.
func TestDatabases(t *testing.T) {
	t.Parallel()
	server := newTemporalServer(t)
	process, err := server.Postgres.Process()
	require.NoError(t, err)
	start(t, process)
	require.NoError(t, server.createDatabases(testContext(t)))
	before := server.passwords["TEMPORAL_PASSWORD"]
	server.Init()
	require.NoError(t, server.createDatabases(testContext(t)))

	connect := func(role, password, database string) error {
		url := fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/%s", role, password, server.Postgres.Port, database)
		conn, err := pgx.Connect(testContext(t), url)
		if err != nil {
			return err
		}
		return conn.Close(testContext(t))
	}
	password := server.passwords["TEMPORAL_PASSWORD"]
	require.NoError(t, connect("temporal", password, "temporal"))
	require.ErrorContains(t, connect("temporal", before, "temporal"), "password authentication failed")
	require.ErrorContains(t, connect("temporal", password, "temporal_visibility"), "permission denied")
	require.ErrorContains(t, connect("temporal", password, "photos"), "permission denied")
	require.NoError(t, connect("temporal_visibility", server.passwords["TEMPORAL_VISIBILITY_PASSWORD"], "temporal_visibility"))
}

func TestServerConfig(t *testing.T) {
	t.Parallel()
	server := newTemporalServer(t)
	server.Port, server.MetricsPort = 7233, 8000
	env := map[string]string{}
	for _, variable := range server.env() {
		name, value, _ := strings.Cut(variable, "=")
		env[name] = value
	}
	// The few of the server's functions that the file uses.
	functions := template.FuncMap{
		"env":   func(name string) string { return env[name] },
		"quote": func(text string) string { return fmt.Sprintf("%q", text) },
		"default": func(other, text string) string {
			if text == "" {
				return other
			}
			return text
		},
	}
	text, err := temporalconfig.Files.ReadFile("server.yaml")
	require.NoError(t, err)
	require.Contains(t, strings.SplitN(string(text), "\n", 2)[0], "enable-template")
	parsed, err := template.New("").Funcs(functions).Option("missingkey=error").Parse(string(text))
	require.NoError(t, err)
	var rendered strings.Builder
	require.NoError(t, parsed.Execute(&rendered, nil))
	var config struct {
		Persistence struct {
			NumHistoryShards int `yaml:"numHistoryShards"`
			Datastores       map[string]struct {
				SQL struct{ Password, ConnectAddr string }
			}
		}
		Services map[string]struct {
			RPC struct {
				BindOnIP       string `yaml:"bindOnIP"`
				MembershipPort int    `yaml:"membershipPort"`
			} `yaml:"rpc"`
		}
	}
	require.NoError(t, yaml.Unmarshal([]byte(rendered.String()), &config))
	require.Equal(t, historyShards, config.Persistence.NumHistoryShards, "databases that are in use could not be read any more")
	require.Equal(t, server.passwords["TEMPORAL_PASSWORD"], config.Persistence.Datastores["default"].SQL.Password)
	require.Len(t, config.Services, 4)
	for name, service := range config.Services {
		require.Equal(t, loopback, service.RPC.BindOnIP, name)
		require.LessOrEqual(t, service.RPC.MembershipPort, math.MaxInt16, name)
	}
}

func TestScripts(t *testing.T) {
	t.Parallel()
	server := newTemporalServer(t)
	for _, script := range []string{"schema.sh", "namespace.sh"} {
		output, err := exec.Command("/bin/sh", "-n", server.config(script)).CombinedOutput()
		require.NoError(t, err, string(output))
	}
}
