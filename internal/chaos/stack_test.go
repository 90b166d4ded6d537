package chaos_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/devstack"
	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
)

// workers and the links over which they and the API reach their servers. Each
// process has its own links, so that one can be cut off.
var (
	workers = []string{"worker-1", "worker-2"}
	links   = []string{
		"worker-1 to postgres", "worker-1 to temporal",
		"worker-2 to postgres", "worker-2 to temporal",
		"api to temporal",
	}
)

// boxes are the THUMBNAIL_SIZES of the workers, which are squares.
var boxes = []int{64, 320}

// stack is the real program and the real servers, each a process that is restarted
// when it exits, as by `photo-processor-dev`.
type stack struct {
	dir        devstack.Dir
	api        string // its URL
	postgres   devstack.Postgres
	temporal   devstack.Temporal
	bucket     string // directory
	sources    string // directory
	supervisor devstack.Supervisor
	proxies    map[string]*toxiproxy.Proxy // by link
	pauses     map[string]*pause           // by process
	disk       string                      // a small file system, "" if none could be mounted
}

// pause delays the restart of a killed process.
type pause struct {
	mu    sync.Mutex
	until time.Time
}

func (p *pause) extend(lasts time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until = time.Now().Add(lasts)
}

func (p *pause) wait(ctx context.Context) error {
	p.mu.Lock()
	until := p.until
	p.mu.Unlock()
	return waitUntil(ctx, until)
}

// waitUntil waits for a time of the plan. It is not for waiting for events.
func waitUntil(ctx context.Context, at time.Time) error {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

var programsDir string // empty until they are built

func removePrograms() {
	if programsDir != "" {
		_ = os.RemoveAll(programsDir)
	}
}

// programs builds the programs once. The program has the race detector, whose
// findings the auditor looks for; the render program, which has a memory limit, has
// not.
var programs = sync.OnceValues(func() (dir string, err error) {
	dir, err = os.MkdirTemp("", "photo-processor-chaos-bin-")
	if err != nil {
		return "", err
	}
	programsDir = dir
	for _, args := range [][]string{{"-race", "../../cmd/photo-processor"}, {"../../cmd/photo-processor-render"}} {
		build := exec.Command("go", append([]string{"build", "-o", dir}, args...)...)
		if output, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%w: %s", err, output)
		}
	}
	return dir, nil
})

// start starts everything, and returns when the API is ready.
func start(t *testing.T) *stack {
	t.Helper()
	bin, err := programs()
	require.NoError(t, err)
	cli, err := devstack.TemporalCLI(t.Context(), os.Stderr)
	require.NoError(t, err)

	// Not t.TempDir: PostgreSQL's user must have access, and a socket's path must be
	// short.
	root, err := os.MkdirTemp("/tmp", "photo-processor-chaos-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(root, 0o711))
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	dir, err := devstack.NewDir(filepath.Join(root, "data"))
	require.NoError(t, err)
	s := &stack{
		dir:      dir,
		postgres: devstack.Postgres{Dir: dir},
		temporal: devstack.Temporal{Dir: dir, CLI: cli, Port: freePort(t)},
		proxies:  map[string]*toxiproxy.Proxy{},
		pauses:   map[string]*pause{},
	}
	s.supervisor.Log = slog.New(slog.DiscardHandler)
	storage := filepath.Join(root, "disk")
	require.NoError(t, os.Mkdir(storage, 0o700))
	if err := mountSmallDisk(t, storage); err != nil {
		t.Logf("no disk gets full: none can be mounted here: %s", err)
	} else {
		s.disk = storage
	}
	s.bucket, s.sources = filepath.Join(storage, "thumbnails"), filepath.Join(storage, "sources")
	require.NoError(t, dir.Create())
	t.Cleanup(func() {
		if err := s.supervisor.Stop(); err != nil {
			t.Log(err)
		}
	})

	postgres, err := s.postgres.Process()
	require.NoError(t, err)
	// No test cuts the power, and syncing would slow down other tests.
	postgres.Args = append(postgres.Args, "-c", "fsync=off")
	temporal, err := s.temporal.Process()
	require.NoError(t, err)
	s.run(t, postgres)
	s.run(t, temporal)

	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	upstreams := map[string]string{"postgres": s.postgresOverTCP(t), "temporal": s.temporal.Address()}
	for _, link := range links {
		_, to, _ := strings.Cut(link, " to ")
		proxy := toxiproxy.NewProxy(server, link, "127.0.0.1:0", upstreams[to])
		require.NoError(t, proxy.Start())
		t.Cleanup(proxy.Stop)
		s.proxies[link] = proxy
	}

	api := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	s.api = "http://" + api
	var sizes []string
	for _, box := range boxes {
		sizes = append(sizes, fmt.Sprintf("%dx%d", box, box))
	}
	environment := append(os.Environ(),
		"DATA_DIR="+dir.Root, "HTTP_ADDR="+api, "API_TOKEN=", "TEMPORAL_NAMESPACE=",
		"THUMBNAILS_BUCKET=file://"+s.bucket, "SOURCE_CACHE_DIR="+s.sources,
		"THUMBNAIL_SIZES="+strings.Join(sizes, ","), "THUMBNAIL_FORMAT=jpeg",
		"SOURCE_ALLOW_CIDRS=127.0.0.1/32", "START_DIRECTLY="+strconv.Itoa(startDirectly),
		"HTTP_TIMEOUT=10s", "SHUTDOWN_TIMEOUT=2s",
		// Frequent, to check that it leaves slow photos alone.
		"RECONCILE_INTERVAL=10s",
		// Few, so that the batch lasts as long as the faults.
		"WORKER_ACTIVITIES=8", "RENDER_CONCURRENCY=2",
	)
	// Both migrate at their start, but may be ready before that.
	migrate := exec.CommandContext(t.Context(), filepath.Join(bin, "photo-processor"), "migrate")
	migrate.Env = append(environment[:len(environment):len(environment)], "DATABASE_URL="+s.postgres.DSN())
	output, err := migrate.CombinedOutput()
	require.NoError(t, err, string(output))
	s.run(t, devstack.Process{
		Name: "api", Path: filepath.Join(bin, "photo-processor"), Args: []string{"api"},
		Env: append(environment[:len(environment):len(environment)],
			"DATABASE_URL="+s.postgres.DSN(), "TEMPORAL_ADDRESS="+s.proxies["api to temporal"].Listen),
	})
	require.Eventually(t, s.ready, 2*time.Minute, 50*time.Millisecond, "the API is not ready")
	for _, worker := range workers {
		s.run(t, devstack.Process{
			Name: worker, Path: filepath.Join(bin, "photo-processor"), Args: []string{"worker"},
			Env: append(environment[:len(environment):len(environment)],
				"DATABASE_URL=postgres://photos@"+s.proxies[worker+" to postgres"].Listen+"/photos?sslmode=disable",
				"TEMPORAL_ADDRESS="+s.proxies[worker+" to temporal"].Listen),
		})
	}
	return s
}

// ready reports whether the API is ready.
func (s *stack) ready() bool {
	resp, err := devstacktest.HTTPClient.Get(s.api + "/readyz")
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := devstack.FreePort()
	require.NoError(t, err)
	return port
}

// run starts the process, and restarts it whenever it has exited and its pause is
// over.
func (s *stack) run(t *testing.T, process devstack.Process) {
	t.Helper()
	pause := &pause{}
	s.pauses[process.Name] = pause
	// Stopping reports errors.
	process.StopSignals = []syscall.Signal{syscall.SIGKILL}
	process.LogFile, process.PIDFile = s.dir.Log(process.Name), s.dir.PIDFile(process.Name)
	prepare := process.Prepare
	process.Prepare = func(ctx context.Context) error {
		if err := pause.wait(ctx); err != nil || prepare == nil {
			return err
		}
		return prepare(ctx)
	}
	require.NoError(t, s.supervisor.Start(t.Context(), process))
}

// postgresOverTCP returns the address of a TCP proxy for PostgreSQL's Unix socket,
// which toxiproxy cannot use.
func (s *stack) postgresOverTCP(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	sockets, err := filepath.Glob(filepath.Join(s.dir.PostgresSocket(), ".s.PGSQL.*[0-9]"))
	require.NoError(t, err)
	require.Len(t, sockets, 1)
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", sockets[0])
			if err != nil { // it was killed
				_ = client.Close()
				continue
			}
			// When one side closes, the other is closed.
			forward := func(to, from net.Conn) {
				_, _ = io.Copy(to, from)
				_ = to.Close()
				_ = from.Close()
			}
			go forward(client, server)
			go forward(server, client)
		}
	}()
	return listener.Addr().String()
}
