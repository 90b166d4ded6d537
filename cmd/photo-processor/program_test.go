package main_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/jpeg"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	temporalclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/photo-processor/photo-processor/internal/client"
	"github.com/photo-processor/photo-processor/internal/devstack"
	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/samples"
	"github.com/photo-processor/photo-processor/workflows"
)

// program is the built programs with an empty data directory.
type program struct {
	path string
	dir  string
	env  []string
	api  string // its URL

	workerMetrics string // URL of the worker's metrics
}

// build builds the programs like `make build`, and chooses free ports.
func build(t *testing.T) *program {
	t.Helper()
	// Not t.TempDir: PostgreSQL's user must have access, and a socket's path must be
	// short.
	dir, err := os.MkdirTemp("/tmp", "photo-processor-e2e-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o711))
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &program{path: filepath.Join(dir, "photo-processor"), dir: filepath.Join(dir, "data")}
	built := exec.Command("go", "build", "-ldflags", "-X main.version=test", "-o", dir, ".", "../photo-processor-dev", "../photo-processor-render")
	output, err := built.CombinedOutput()
	require.NoError(t, err, string(output))

	port := func() string {
		n, err := devstack.FreePort()
		require.NoError(t, err)
		return strconv.Itoa(n)
	}
	api := "127.0.0.1:" + port()
	p.api = "http://" + api
	metrics := twoPorts(t)
	p.workerMetrics = fmt.Sprintf("http://127.0.0.1:%d/metrics", metrics+1)
	p.env = append(os.Environ(), "DATA_DIR="+p.dir, fmt.Sprintf("METRICS_ADDR=127.0.0.1:%d", metrics), "HTTP_ADDR="+api, "THUMBNAIL_SIZES=320x320,64x64",
		"DEV_TEMPORAL_PORT="+port(), "DEV_TEMPORAL_UI_PORT="+port(), "DEV_TEMPORAL_METRICS_PORT="+port(),
		"DEV_POSTGRES_PORT="+port(), "DEV_SAMPLES_PORT="+port(),
		"DATABASE_URL=", "TEMPORAL_ADDRESS=")
	return p
}

// twoPorts returns the first of two free ports in a row.
func twoPorts(t *testing.T) int {
	t.Helper()
	for range 100 {
		first, err := devstack.FreePort()
		require.NoError(t, err)
		if second, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+1)); err == nil {
			require.NoError(t, second.Close())
			return first
		}
	}
	t.Fatal("there are no two free ports in a row")
	return 0
}

// run runs photo-processor and returns its output and exit code.
func (p *program) run(t *testing.T, args ...string) (stdout string, exitCode int) {
	t.Helper()
	return p.runProgram(t, p.path, args)
}

// runDev runs photo-processor-dev.
func (p *program) runDev(t *testing.T, args ...string) (stdout string, exitCode int) {
	t.Helper()
	return p.runProgram(t, p.path+"-dev", args)
}

func (p *program) runProgram(t *testing.T, path string, args []string) (stdout string, exitCode int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = p.env
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		require.NoError(t, err)
	}
	t.Logf("%s %s: exit %d\n%s%s", filepath.Base(path), strings.Join(args, " "), cmd.ProcessState.ExitCode(), out.String(), errs.String())
	return out.String() + errs.String(), cmd.ProcessState.ExitCode()
}

func (p *program) must(t *testing.T, args ...string) string {
	t.Helper()
	out, code := p.run(t, args...)
	require.Zero(t, code, out)
	return out
}

func (p *program) mustDev(t *testing.T, args ...string) string {
	t.Helper()
	out, code := p.runDev(t, args...)
	require.Zero(t, code, out)
	return out
}

// pid returns the PID of a process, from `photo-processor-dev status`.
func (p *program) pid(t *testing.T, name string) int {
	t.Helper()
	found := regexp.MustCompile(name + ` +process (\d+)`).FindStringSubmatch(p.mustDev(t, "status"))
	require.NotNil(t, found, "%s does not run", name)
	pid, err := strconv.Atoi(found[1])
	require.NoError(t, err)
	return pid
}

// variable returns a variable from `photo-processor-dev env`.
func (p *program) variable(t *testing.T, name string) string {
	t.Helper()
	found := regexp.MustCompile(`export ` + name + `='(.*)'`).FindStringSubmatch(p.mustDev(t, "env"))
	require.NotNil(t, found)
	return found[1]
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := devstacktest.HTTPClient.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

func (p *program) photo(t *testing.T, id uuid.UUID) client.Photo {
	t.Helper()
	shown, err := client.New(p.api, "").Photo(t.Context(), id)
	require.NoError(t, err)
	return shown
}

// children lists the running child processes.
func children(parent int) (pids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		// See proc_pid_stat(5): pid (name) state ppid …
		_, after, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(after)
		if len(fields) > 1 && fields[0] != "Z" && fields[1] == strconv.Itoa(parent) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// stop stops the stack, also after a failed test.
func (p *program) stop() {
	cmd := exec.Command(p.path+"-dev", "stop")
	cmd.Env = p.env
	_ = cmd.Run()
}

// addGenerated adds different photos of a megapixel.
func (p *program) addGenerated(t *testing.T, n int) (ids []string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), p.variable(t, "DATABASE_URL"))
	require.NoError(t, err)
	defer conn.Close(t.Context())
	state := regexp.MustCompile(`sample photos +(\S+)`).FindStringSubmatch(p.mustDev(t, "status"))
	for seed := range n {
		var id string
		url := samples.GeneratedURL(state[1], uint64(seed), photo.Size{Width: 1200, Height: 900})
		require.NoError(t, conn.QueryRow(t.Context(), `INSERT INTO photos (url) VALUES ($1) RETURNING uuid::text`, url).Scan(&id))
		ids = append(ids, id)
	}
	return ids
}

// count returns how many photos have the status, -1 while the API is away.
func (p *program) count(t *testing.T, status photo.Status) int {
	t.Helper()
	n := 0
	err := client.New(p.api, "").Photos(t.Context(), status, func(photos []client.PhotoSummary) error {
		n += len(photos)
		return nil
	})
	if err != nil {
		return -1
	}
	return n
}

// requireThumbnails checks that the photo has one thumbnail per box, each a picture
// of the recorded size.
func (p *program) requireThumbnails(t *testing.T, ph client.Photo) {
	t.Helper()
	require.Equal(t, photo.Completed, ph.Status, "%s", ph.UUID)
	require.Len(t, ph.Thumbnails, 2)
	for i, box := range []int{64, 320} {
		thumb := ph.Thumbnails[i]
		require.Equal(t, box, max(thumb.Width, thumb.Height))
		status, body := get(t, p.api+"/thumbnails/"+thumb.URL)
		require.Equal(t, http.StatusOK, status)
		decoded, err := jpeg.Decode(strings.NewReader(body))
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("%dx%d", thumb.Width, thumb.Height), fmt.Sprintf("%dx%d", decoded.Bounds().Dx(), decoded.Bounds().Dy()))
	}
}

// files counts the files in a bucket, also incomplete ones.
func (p *program) files(t *testing.T, bucket string) int {
	t.Helper()
	n := 0
	require.NoError(t, filepath.WalkDir(filepath.Join(p.dir, bucket), func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		if errors.Is(err, fs.ErrNotExist) { // not created yet
			return nil
		}
		return err
	}))
	return n
}

// requireHistory checks the workflow's status, and replays its history.
func requireHistory(t *testing.T, temporal temporalclient.Client, workflowID string, want enumspb.WorkflowExecutionStatus) {
	t.Helper()
	description, err := temporal.DescribeWorkflow(t.Context(), workflowID, "")
	require.NoError(t, err)
	require.Equal(t, want, description.Status)
	var history historypb.History
	events := temporal.GetWorkflowHistory(t.Context(), workflowID, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		require.NoError(t, err)
		history.Events = append(history.Events, event)
	}
	replayer := worker.NewWorkflowReplayer()
	replayer.RegisterWorkflow(workflows.ProcessPhoto)
	require.NoError(t, replayer.ReplayWorkflowHistory(nil, &history))
}
