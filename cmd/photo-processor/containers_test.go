package main_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/devstack"
	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
)

// imageUser is the UID of the Dockerfile's user.
const imageUser = 10001

// containers runs services as processes, in place of Docker.
type containers struct {
	project  *types.Project
	program  *program
	programs devstack.TemporalPrograms
	s3       string
	postgres devstack.Postgres
	dir      devstack.Dir
	ports    map[string]int // by "service:port"
	started  int
}

func newContainers(t *testing.T, p *program) *containers {
	t.Helper()
	c := &containers{project: composeProject(t), program: p, ports: map[string]int{}}
	var err error
	c.programs, err = devstack.InstallTemporalServer(t.Context(), os.Stderr)
	require.NoError(t, err)
	c.s3, err = devstacktest.S3Gateway(t.Context())
	require.NoError(t, err)
	c.dir, err = devstack.NewDir(p.dir)
	require.NoError(t, err)
	require.NoError(t, c.dir.Create())
	require.NoError(t, os.Chmod(c.dir.Root, 0o711))
	return c
}

// volume returns a directory in place of a volume, writable for the image's user as
// in Docker.
func (c *containers) volume(name string) string {
	dir := filepath.Join(c.dir.Root, "volume-"+name)
	if err := os.Mkdir(dir, 0o777); err == nil {
		_ = os.Chmod(dir, 0o777)
	}
	return dir
}

// address returns the local address in place of a container's port.
func (c *containers) address(service string, port int) string {
	name := fmt.Sprintf("%s:%d", service, port)
	if c.ports[name] == 0 {
		free, err := devstack.FreePort()
		if err != nil {
			panic(err)
		}
		c.ports[name] = free
	}
	return fmt.Sprintf("127.0.0.1:%d", c.ports[name])
}

var (
	hostAndPort = regexp.MustCompile(`\b([a-z0-9.]+(?:-[a-z0-9]+)*):([0-9]{4,5})\b`)
	onlyPort    = regexp.MustCompile(`^[0-9]{4,5}$`)
)

// translate replaces hosts, ports and paths of containers by local ones.
func (c *containers) translate(service types.ServiceConfig, text string) string {
	if slices.Contains(service.Tmpfs, text) {
		return c.volume("tmpfs-" + service.Name)
	}
	for _, volume := range service.Volumes {
		source := volume.Source
		if volume.Type == types.VolumeTypeVolume {
			source = c.volume(volume.Source)
		}
		text = regexp.MustCompile(`(^|[ /:])`+regexp.QuoteMeta(volume.Target)+`($|[ /])`).ReplaceAllString(text, "${1}"+source+"${2}")
	}
	text = strings.ReplaceAll(text, "10.253.31.2/32", "127.0.0.1/32")
	if text == "0.0.0.0" {
		return "127.0.0.1"
	}
	if onlyPort.MatchString(text) {
		text = "postgres:" + text // SQL_PORT and DB_PORT
		_, port, _ := strings.Cut(hostAndPort.ReplaceAllStringFunc(text, func(s string) string { return c.hostAndPort(service, s) }), ":")
		return port
	}
	return hostAndPort.ReplaceAllStringFunc(text, func(s string) string { return c.hostAndPort(service, s) })
}

func (c *containers) hostAndPort(service types.ServiceConfig, text string) string {
	host, port, _ := strings.Cut(text, ":")
	number, err := strconv.Atoi(port)
	if err != nil {
		return text
	}
	if _, isService := c.project.Services[host]; isService {
		return c.address(host, number)
	}
	if host == "0.0.0.0" || host == "127.0.0.1" {
		return c.address(service.Name, number)
	}
	return text
}

// environment returns the service's variables, and PATH and HOME.
func (c *containers) environment(service types.ServiceConfig) []string {
	path := []string{
		filepath.Dir(c.program.path), filepath.Dir(c.programs.Server), filepath.Dir(c.programs.SQLTool), filepath.Dir(c.programs.CLI),
		filepath.Dir(c.s3), os.Getenv("PATH"),
	}
	env := []string{"PATH=" + strings.Join(path, ":"), "HOME=" + c.dir.Root}
	for _, variable := range slices.Sorted(maps.Keys(service.Environment)) {
		if service.Environment[variable] == nil {
			continue // a setting without a value
		}
		value := c.translate(service, *service.Environment[variable])
		if _, isService := c.project.Services[value]; isService { // POSTGRES_SEEDS and SQL_HOST
			value = "127.0.0.1"
		}
		env = append(env, variable+"="+value)
	}
	if service.Build != nil && service.Environment["DATA_DIR"] == nil {
		env = append(env, "DATA_DIR="+c.volume("data")) // the Dockerfile's ENV
	}
	// Ports that each container has for itself.
	switch service.Name {
	case "temporal":
		for _, variable := range []string{"FRONTEND_MEMBERSHIP_PORT", "HISTORY_GRPC_PORT", "HISTORY_MEMBERSHIP_PORT",
			"MATCHING_GRPC_PORT", "MATCHING_MEMBERSHIP_PORT", "WORKER_GRPC_PORT", "WORKER_MEMBERSHIP_PORT"} {
			env = append(env, fmt.Sprintf("%s=%d", variable, freeSmallPort()))
		}
		env = append(env, c.portVariable("FRONTEND_GRPC_PORT", "temporal", 7233), c.portVariable("FRONTEND_HTTP_PORT", "temporal", 7243))
	case "temporal-ui":
		env = append(env, "TEMPORAL_UI_HOST=127.0.0.1", c.portVariable("TEMPORAL_UI_PORT", "temporal-ui", 8080))
	case "postgres":
		env = append(env, c.portVariable("PGPORT", "postgres", 5432))
	case "worker":
		c.started++
		env = append(env, "METRICS_ADDR="+c.address("worker", 9090+c.started))
	}
	return env
}

// freeSmallPort returns a free port below 32768: Temporal keeps some ports in
// columns of type smallint.
func freeSmallPort() int {
	for {
		port := 10_000 + rand.IntN(22_000)
		if devstack.CheckPort(fmt.Sprintf("127.0.0.1:%d", port), "Temporal", "") == nil {
			return port
		}
	}
}

func (c *containers) portVariable(variable, service string, port int) string {
	_, translated, _ := strings.Cut(c.address(service, port), ":")
	return variable + "=" + translated
}

// command returns the command of docker-compose.yml, else the image's.
func (c *containers) command(t *testing.T, service types.ServiceConfig) []string {
	t.Helper()
	var command []string
	for _, word := range slices.Concat(service.Entrypoint, service.Command) {
		command = append(command, c.translate(service, word))
	}
	switch {
	case service.Name == "samples": // the Dockerfile's ENTRYPOINTs, without tini
		return append([]string{"photo-processor-dev", "samples"}, command...)
	case service.Build != nil:
		return append([]string{"photo-processor"}, command...)
	case service.Name == "temporal": // the image's entrypoint.sh ends with this
		require.Empty(t, command)
		return []string{"temporal-server", "start"}
	case service.Name == "temporal-ui": // start-ui-server.sh
		require.Empty(t, command)
		config := c.dir.Root + "/ui/config"
		require.NoError(t, os.MkdirAll(config, 0o755))
		content, err := os.ReadFile(service.Volumes[0].Source)
		require.NoError(t, err)
		require.Equal(t, "/home/ui-server/config/docker.yaml", service.Volumes[0].Target)
		require.NoError(t, os.WriteFile(config+"/docker.yaml", content, 0o600))
		return []string{c.programs.UI, "--root", c.dir.Root + "/ui", "--env", "docker", "start"}
	}
	return command
}

// runStep runs a service until it exits.
func (c *containers) runStep(t *testing.T, service types.ServiceConfig) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	command := c.command(t, service)
	env := c.environment(service)
	cmd := exec.CommandContext(ctx, lookPath(t, env, command[0]), command[1:]...)
	cmd.Env = env
	cmd.Dir = c.dir.Root
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s: %s", service.Name, output)
	t.Logf("%s has ended", service.Name)
}

// start starts a service, and waits until it is healthy.
func (c *containers) start(t *testing.T, service types.ServiceConfig) {
	t.Helper()
	env := c.environment(service)
	name := fmt.Sprintf("%s-%d", service.Name, c.started)
	process := devstack.Process{
		Name: name, LogFile: c.dir.Log(name), Env: env, Dir: c.dir.Root, ReadyTimeout: 2 * time.Minute,
	}
	if service.Name == "postgres" {
		// Like the image's entrypoint: initdb, the mounted scripts, the command.
		var err error
		c.postgres = devstack.Postgres{Dir: c.dir, Port: c.port("postgres", 5432), TCP: true}
		process, err = c.postgres.Process()
		require.NoError(t, err)
		require.Equal(t, types.ShellCommand{"postgres", "-c", "max_connections=300"}, service.Command)
		process.Args = append(process.Args, "-c", "max_connections=300")
	} else {
		command := c.command(t, service)
		process.Path, process.Args = lookPath(t, env, command[0]), command[1:]
		if service.Build != nil && os.Geteuid() == 0 {
			process.Credential = &syscall.Credential{Uid: imageUser, Gid: imageUser} // the Dockerfile's USER
		}
		if hasHealthcheck(service) {
			process.Ready = func(ctx context.Context) error { return c.check(ctx, t, service, env) }
		}
	}
	child, err := process.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = child.Stop() })
	if service.Name == "postgres" {
		script := slices.IndexFunc(service.Volumes, func(v types.ServiceVolumeConfig) bool {
			return strings.HasPrefix(v.Target, "/docker-entrypoint-initdb.d/")
		})
		cmd := exec.CommandContext(t.Context(), "psql", "--no-psqlrc", "--file", service.Volumes[script].Source, c.superuser(t))
		cmd.Env = env
		output, err := cmd.CombinedOutput()
		require.NoError(t, err, string(output))
		require.NoError(t, c.check(t.Context(), t, service, env))
	}
	t.Logf("%s is healthy", name)
}

// superuser changes PostgreSQL to the state of the image, with the superuser
// "postgres" and no database, and returns the superuser's URL.
func (c *containers) superuser(t *testing.T) string {
	t.Helper()
	exec := func(url, sql string) {
		conn, err := pgx.Connect(t.Context(), url)
		require.NoError(t, err)
		defer conn.Close(t.Context())
		_, err = conn.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	url := func(role string) string {
		return strings.NewReplacer("//photos@", "//"+role+"@", "/photos?", "/postgres?").Replace(c.postgres.DSN())
	}
	exec(url("photos"), "CREATE ROLE helper SUPERUSER LOGIN")
	exec(url("helper"), "DROP DATABASE photos")
	exec(url("helper"), "ALTER ROLE photos RENAME TO postgres")
	exec(url("postgres"), "DROP ROLE helper")
	return url("postgres")
}

func (c *containers) port(service string, port int) int {
	c.address(service, port)
	return c.ports[fmt.Sprintf("%s:%d", service, port)]
}

// check runs the health check. It replaces wget, which this machine may not have.
func (c *containers) check(ctx context.Context, t *testing.T, service types.ServiceConfig, env []string) error {
	test := service.HealthCheck.Test
	if test[0] != "CMD" {
		return fmt.Errorf("a health check with a shell: %v", test)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(*service.HealthCheck.Timeout))
	defer cancel()
	if test[1] == "wget" {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.translate(service, test[len(test)-1]), nil)
		if err != nil {
			return err
		}
		resp, err := devstacktest.HTTPClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", req.URL, resp.Status)
		}
		return nil
	}
	cmd := exec.CommandContext(ctx, lookPath(t, env, test[1]), test[2:]...)
	cmd.Env = env
	output, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%v: %w: %s", test, err, bytes.TrimSpace(output))
	}
	return nil
}

// lookPath finds the program in the PATH of the environment.
func lookPath(t *testing.T, env []string, name string) string {
	t.Helper()
	if filepath.IsAbs(name) {
		return name
	}
	path, _ := strings.CutPrefix(env[0], "PATH=")
	for _, dir := range strings.Split(path, ":") {
		if found, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return found
		}
	}
	t.Fatalf("there is no %s in %s", name, path)
	return ""
}
