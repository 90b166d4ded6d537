package main_test

import (
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	temporalclient "go.temporal.io/sdk/client"

	"github.com/photo-processor/photo-processor/internal/client"
	"github.com/photo-processor/photo-processor/internal/devstack"
	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/samples"
)

// service is one process of the program, with a data directory of its own.
type service struct {
	cmd    *exec.Cmd
	dir    string
	stderr string // file
	exited chan error
}

// serve starts a service. Later variables override earlier ones.
func (p *program) serve(t *testing.T, name string, env ...string) *service {
	t.Helper()
	s := &service{dir: t.TempDir(), exited: make(chan error, 1)}
	s.stderr = filepath.Join(t.TempDir(), "stderr")
	log, err := os.Create(s.stderr)
	require.NoError(t, err)
	defer log.Close()
	s.cmd = exec.Command(p.path, name)
	s.cmd.Env = append(append(append([]string{}, p.env...), "DATA_DIR="+s.dir, "METRICS_ADDR="), env...)
	s.cmd.Stderr = log
	require.NoError(t, devstack.StartChild(s.cmd)) // it ends with this process, also if that panics
	go func() { s.exited <- s.cmd.Wait() }()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		if t.Failed() {
			log := s.log(t)
			t.Logf("%s:\n…%s", name, log[max(0, len(log)-2000):])
		}
	})
	return s
}

func (s *service) log(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(s.stderr)
	require.NoError(t, err)
	return string(content)
}

func (s *service) awaitLog(t *testing.T, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(s.log(t), text) }, time.Minute, 20*time.Millisecond, text)
}

// awaitExit returns the exit code.
func (s *service) awaitExit(t *testing.T) int {
	t.Helper()
	select {
	case <-s.exited:
		return s.cmd.ProcessState.ExitCode()
	case <-time.After(time.Minute):
		t.Fatalf("it does not end:\n%s", s.log(t))
		return 0
	}
}

// elsewhere is the program with servers on other machines.
type elsewhere struct {
	*program
	s3        *devstacktest.S3Server
	pooled    string // connection string of the database through PgBouncer
	temporal  string // its address, without TLS
	authority *devstacktest.Authority
}

// TestServersElsewhere runs the program with an object store and a Temporal that
// authenticates clients.
func TestServersElsewhere(t *testing.T) {
	e := elsewhere{program: build(t), authority: devstacktest.NewAuthority(t)}
	database, stopDatabase, err := devstacktest.Postgres(t.Context())
	require.NoError(t, err)
	t.Cleanup(stopDatabase)
	var stopPgBouncer, stopTemporal, stopS3 func()
	e.pooled, stopPgBouncer, err = devstacktest.PgBouncer(t.Context(), database, 3)
	require.NoError(t, err)
	t.Cleanup(stopPgBouncer)
	e.temporal, stopTemporal, err = devstacktest.Temporal(t.Context())
	require.NoError(t, err)
	t.Cleanup(stopTemporal)
	e.s3, stopS3, err = devstacktest.S3(t.Context())
	require.NoError(t, err)
	t.Cleanup(stopS3)
	require.NoError(t, e.s3.CreateBucket("thumbnails"))
	e.env = append(append(e.env, e.s3.Env()...),
		"DATABASE_URL="+database, "THUMBNAILS_BUCKET="+e.s3.BucketURL("thumbnails"),
		"TEMPORAL_ADDRESS="+e.temporal, "SOURCE_ALLOW_CIDRS=127.0.0.1/32", "RENDER_CONCURRENCY=1",
		"TEMPORAL_CONFIG_FILE="+filepath.Join(t.TempDir(), "none"), // not the developer's
	)
	t.Run("who is not let in says so in one line", e.testRefusals)
	t.Run("make start uses them", e.testStart)
	t.Run("two workers share nothing but S3 and PostgreSQL", e.testTwoWorkers)
}

// secured returns the variables for a Temporal that requires client certificates.
func (e elsewhere) secured(t *testing.T) []string {
	t.Helper()
	certificate, key := e.authority.Certificate(t, time.Now().Add(time.Hour))
	return []string{
		"TEMPORAL_ADDRESS=" + devstacktest.SecureTemporal{Authority: e.authority, Clients: e.authority}.Start(t, e.temporal),
		"TEMPORAL_TLS_SERVER_CA_CERT_PATH=" + e.authority.File,
		"TEMPORAL_TLS_CLIENT_CERT_PATH=" + certificate, "TEMPORAL_TLS_CLIENT_KEY_PATH=" + key,
	}
}

// testStart runs the development stack with another PostgreSQL and Temporal than its
// own.
func (e elsewhere) testStart(t *testing.T) {
	p := *e.program
	p.env = append(append([]string{}, p.env...), e.secured(t)...)
	t.Cleanup(p.stop)
	require.Contains(t, p.mustDev(t, "start"), "photo-processor is ready")
	log, err := os.ReadFile(filepath.Join(p.dir, "logs", "dev.log"))
	require.NoError(t, err)
	require.Contains(t, string(log), "Using the Temporal at")
	p.mustDev(t, "stop")

	p.env = append(p.env, "TEMPORAL_NAMESPACE=nobodys")
	out, code := p.runDev(t, "start")
	require.Equal(t, 1, code)
	require.Contains(t, out, `it has no namespace "nobodys"`)

	// The stack ignores a developer's default profile, which may be of production.
	home := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(home, "temporalio"), 0o700))
	profile := "[profile.default]\naddress = \"production.example:7233\"\n"
	require.NoError(t, os.WriteFile(filepath.Join(home, "temporalio", "temporal.toml"), []byte(profile), 0o600))
	p.env = append(append([]string{}, e.env...), "XDG_CONFIG_HOME="+home, "TEMPORAL_ADDRESS=", "TEMPORAL_CONFIG_FILE=")
	require.Regexp(t, `^127\.0\.0\.1:`, p.variable(t, "TEMPORAL_ADDRESS"))
	require.Equal(t, os.DevNull, p.variable(t, "TEMPORAL_CONFIG_FILE"))
	p.env = append(p.env, "TEMPORAL_PROFILE=default")
	require.Equal(t, "production.example:7233", p.variable(t, "TEMPORAL_ADDRESS"))
}

// testTwoWorkers processes a batch with two workers that share no directory. They
// use client certificates and belong to a worker deployment, and reach PostgreSQL
// through PgBouncer in transaction mode.
func (e elsewhere) testTwoWorkers(t *testing.T) {
	p, s3 := *e.program, e.s3
	p.env = append(append(p.env, e.secured(t)...), "WORKER_DEPLOYMENT=photos", "WORKER_ACTIVITIES=2", "DATABASE_URL="+e.pooled)
	temporal, err := temporalclient.Dial(temporalclient.Options{HostPort: e.temporal})
	require.NoError(t, err)
	defer temporal.Close()

	sources := httptest.NewServer(samples.Handler(t.TempDir()))
	defer sources.Close()

	api := p.serve(t, "api")
	workers := []*service{p.serve(t, "worker"), p.serve(t, "worker")}
	for _, w := range workers {
		w.awaitLog(t, "worker is ready")
	}
	api.awaitLog(t, "API listens")
	require.Eventually(t, func() bool { return p.count(t, photo.Pending) == 0 }, time.Minute, 20*time.Millisecond)
	// As in docs/object-storage.md, with Temporal's CLI.
	cli, err := devstack.TemporalCLI(t.Context(), io.Discard)
	require.NoError(t, err)
	setCurrent := exec.Command(cli, "worker", "deployment", "set-current-version", "--deployment-name", "photos", "--build-id", "test", "--yes")
	setCurrent.Env = append(p.env, "HOME="+t.TempDir())
	output, err := setCurrent.CombinedOutput()
	require.NoError(t, err, string(output))

	urls := []string{}
	for seed := range 30 {
		urls = append(urls, samples.GeneratedURL(sources.URL, uint64(seed), photo.Size{Width: 640, Height: 480}))
	}
	ids := p.add(t, urls...)
	p.awaitCompleted(t, ids)
	makers := map[string]bool{}
	for _, id := range ids {
		makers[maker(t, temporal, id)] = true
		p.requireThumbnails(t, p.photo(t, id))
		described, err := temporal.DescribeWorkflowExecution(t.Context(), photo.WorkflowID(id), "")
		require.NoError(t, err)
		version := described.GetWorkflowExecutionInfo().GetVersioningInfo().GetDeploymentVersion()
		require.Equal(t, "photos/test", version.GetDeploymentName()+"/"+version.GetBuildId(), "the program's own version")
	}
	require.Equal(t, map[string]bool{workers[0].identity(t): true, workers[1].identity(t): true}, makers, "each had its share")
	thumbnails, err := s3.Files("thumbnails")
	require.NoError(t, err)
	require.Len(t, thumbnails, 2*len(ids))
	for _, s := range append(workers, api) {
		require.Contains(t, s.log(t), "connected to PostgreSQL through a pooler")
		require.NoError(t, filepath.WalkDir(s.dir, func(path string, entry os.DirEntry, err error) error {
			require.True(t, err != nil || entry.IsDir(), "%s: nothing is kept on a machine", path)
			return err
		}))
	}
	requireNoSecretsInRenderers(t, workers[0].cmd.Process.Pid)
}

// requireNoSecretsInRenderers checks that render processes have none of the worker's
// variables.
func requireNoSecretsInRenderers(t *testing.T, worker int) {
	t.Helper()
	environ := func(pid int) string {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		require.NoError(t, err)
		return string(content)
	}
	require.Contains(t, environ(worker), "AWS_SECRET_ACCESS_KEY=")
	renderers := children(worker)
	require.NotEmpty(t, renderers)
	for _, pid := range renderers {
		require.NotContains(t, environ(pid), "AWS_")
		require.NotContains(t, environ(pid), "TEMPORAL_")
	}
}

// identity returns the identity of a worker in Temporal.
func (s *service) identity(t *testing.T) string {
	t.Helper()
	host, err := os.Hostname()
	require.NoError(t, err)
	return strconv.Itoa(s.cmd.Process.Pid) + "@" + host + "@"
}

// maker returns the identity of the worker that rendered a photo.
func maker(t *testing.T, temporal temporalclient.Client, id uuid.UUID) (identity string) {
	t.Helper()
	events := temporal.GetWorkflowHistory(t.Context(), photo.WorkflowID(id), "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		require.NoError(t, err)
		if a := event.GetWorkflowTaskCompletedEventAttributes(); a != nil {
			identity = a.GetIdentity()
		}
	}
	return identity
}

// add adds photos through the API, and has them processed.
func (p *program) add(t *testing.T, urls ...string) (ids []uuid.UUID) {
	t.Helper()
	added, err := client.New(p.api, "").Add(t.Context(), true, urls...)
	require.NoError(t, err)
	for _, ph := range added {
		ids = append(ids, ph.UUID)
	}
	return ids
}

func (p *program) awaitCompleted(t *testing.T, ids []uuid.UUID) {
	t.Helper()
	for _, id := range ids {
		require.Eventually(t, func() bool { return p.photo(t, id).Status.IsFinal() }, 2*time.Minute, 20*time.Millisecond)
		require.Equal(t, photo.Completed, p.photo(t, id).Status, "%+v", p.photo(t, id).Failure)
	}
}

// testRefusals connects to servers that permanently reject the program: it exits,
// and logs the reason in one line.
func (e elsewhere) testRefusals(t *testing.T) {
	p, s3 := e.program, e.s3
	keyed := devstacktest.SecureTemporal{Authority: e.authority, APIKey: "key-0123456789"}.Start(t, e.temporal)
	expired, key := e.authority.Certificate(t, time.Now().Add(-time.Hour))
	for name, test := range map[string]struct {
		env  []string
		want string
	}{
		"no such namespace": {[]string{"TEMPORAL_NAMESPACE=nobodys"}, `it has no namespace "nobodys"`},
		"a refused key": {[]string{"TEMPORAL_ADDRESS=" + keyed, "TEMPORAL_TLS_SERVER_CA_CERT_PATH=" + e.authority.File, "TEMPORAL_API_KEY=wrong"},
			"access is denied; check TEMPORAL_API_KEY"},
		"an expired certificate": {[]string{"TEMPORAL_TLS_CLIENT_CERT_PATH=" + expired, "TEMPORAL_TLS_CLIENT_KEY_PATH=" + key},
			"the client's certificate has expired"},
		"no such bucket": {[]string{"THUMBNAILS_BUCKET=" + s3.BucketURL("nobodys")}, "THUMBNAILS_BUCKET: there is no such bucket"},
		"a wrong secret": {[]string{"THUMBNAILS_BUCKET=" + s3.BucketURL("any"), "AWS_SECRET_ACCESS_KEY=wrong"}, "THUMBNAILS_BUCKET: the bucket's server refused the request"},
	} {
		for _, command := range []string{"api", "worker"} {
			t.Run(name+", "+command, func(t *testing.T) {
				s := p.serve(t, command, test.env...)
				require.Equal(t, 1, s.awaitExit(t))
				reasons := []string{}
				for _, line := range strings.Split(strings.TrimSpace(s.log(t)), "\n") {
					if !strings.Contains(line, " level=INFO ") { // such as "API stops"
						reasons = append(reasons, line)
					}
				}
				require.Len(t, reasons, 1)
				require.Contains(t, reasons[0], "photo-processor: ")
				require.Contains(t, reasons[0], test.want)
			})
		}
	}
}
