package main_test

import (
	"context"
	"flag"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/client"
	"github.com/photo-processor/photo-processor/internal/devstack"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/samples"
)

var composeFlag = flag.Bool("compose", false, "run TestCompose, which needs a Docker engine; see make test-compose")

// samplesInCompose is where workers reach the service samples.
const samplesInCompose = "http://10.253.31.2:3100"

// TestCompose runs docker-compose.yml on a Docker engine: the README's commands,
// 100 photos while a worker is killed and PostgreSQL and Temporal are restarted,
// a backup and its restore, and the bucket in S3. The project has a name, ports
// and passwords of its own, and is removed at the end. It runs only with
// -compose.
func TestCompose(t *testing.T) {
	if !*composeFlag {
		t.Skip("only with -compose; see make test-compose")
	}
	const project, images = "photo-processor-test", "test"
	env := append(os.Environ(), withTestSecrets(t)...)
	env = append(env, "COMPOSE_PROJECT_NAME="+project, "VERSION="+images)
	p := &program{}
	for _, name := range []string{"API_PORT", "TEMPORAL_PORT", "TEMPORAL_UI_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT"} {
		port, err := devstack.FreePort()
		require.NoError(t, err)
		env = append(env, name+"="+strconv.Itoa(port))
		if name == "API_PORT" {
			p.api = "http://127.0.0.1:" + strconv.Itoa(port)
		}
	}
	docker := func(ctx context.Context, args ...string) string {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Minute) // building the image takes minutes
		defer cancel()
		start := time.Now()
		cmd := exec.CommandContext(ctx, "docker", args...)
		cmd.Dir, cmd.Env = repository, env
		output, err := cmd.CombinedOutput()
		if err != nil {
			logs := exec.Command("docker", "compose", "--profile", "*", "logs", "--tail", "20")
			logs.Dir, logs.Env = repository, env
			text, _ := logs.CombinedOutput()
			t.Fatalf("docker %s: %s\n%s\nThe last lines of the services:\n%s", strings.Join(args, " "), err, output, text)
		}
		t.Logf("docker %s: %s", strings.Join(args, " "), time.Since(start).Round(time.Second))
		return string(output)
	}
	compose := func(args ...string) string { return docker(t.Context(), append([]string{"compose"}, args...)...) }
	t.Cleanup(func() {
		docker(context.Background(), "compose", "--profile", "*", "down", "--volumes", "--remove-orphans")
		require.Empty(t, docker(context.Background(), "volume", "ls", "--quiet", "--filter", "label=com.docker.compose.project="+project))
	})

	compose("up", "--build", "--wait")
	compose("--profile", "samples", "up", "--wait")
	env = append(env, "WORKERS=3")
	compose("--profile", "samples", "up", "--wait")
	workers := strings.Fields(compose("ps", "--quiet", "worker"))
	require.Len(t, workers, 3)
	status, _ := get(t, p.api+"/readyz")
	require.Equal(t, http.StatusOK, status)

	require.Contains(t, compose("logs", "api"), `"bytes":483183820`, "90 % of API_MEMORY are Go's memory limit")
	require.NotContains(t, compose("logs", "worker"), "PhotoFailure", "the namespace has the search attribute")

	const photos = 100
	api := client.New(p.api, "")
	process := func(first, n int) {
		urls := make([]string, n)
		for i := range urls {
			urls[i] = samples.GeneratedURL(samplesInCompose, uint64(first+i), photo.Size{Width: 1200, Height: 900})
		}
		_, err := api.Add(t.Context(), true, urls...)
		require.NoError(t, err)
	}
	process(0, photos)
	for i, disturb := range []func(){
		func() { docker(t.Context(), "kill", workers[0]) },
		func() { compose("restart", "temporal") },
		func() { compose("restart", "postgres") },
	} {
		// In the middle of the batch.
		require.Eventually(t, func() bool { return p.count(t, photo.Completed) > photos*(i+1)/5 }, 5*time.Minute, 20*time.Millisecond)
		disturb()
	}
	requireCompleted := func(n int) {
		t.Helper()
		require.Eventually(t, func() bool { return p.count(t, photo.Completed) == n }, 5*time.Minute, 100*time.Millisecond)
	}
	requireCompleted(photos)
	require.Zero(t, p.count(t, photo.Failed))
	requireFiles := func() {
		t.Helper()
		require.NoError(t, api.Photos(t.Context(), photo.Completed, func(page []client.PhotoSummary) error {
			for _, summary := range page {
				shown := p.photo(t, summary.UUID)
				require.Len(t, shown.Thumbnails, 1)
				status, _ := get(t, p.api+"/thumbnails/"+shown.Thumbnails[0].URL)
				require.Equal(t, http.StatusOK, status)
			}
			return nil
		}))
	}
	requireFiles()
	require.Regexp(t, `rows +100\nfiles +100\nmissing +0\ndamaged +0\norphaned +0\n`, compose("exec", "-T", "worker", "photo-processor", "audit"))

	backup := t.TempDir()
	runBackup := func(command string) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "docs/backup.sh", command, "compose", backup)
		cmd.Dir, cmd.Env = repository, slices.Concat(env, []string{"FORCE=1"})
		output, err := cmd.CombinedOutput()
		require.NoError(t, err, string(output))
		t.Logf("backup.sh %s:\n%s", command, output)
		require.NotContains(t, string(output), "lacks")
	}
	runBackup("backup")
	compose("exec", "-T", "postgres", "psql", "-U", "postgres", "-c", "TRUNCATE photos CASCADE", "photos")
	compose("exec", "-T", "api", "find", "/data/thumbnails", "-type", "f", "-delete")
	require.Zero(t, p.count(t, photo.Completed))
	runBackup("restore")
	requireCompleted(photos)
	requireFiles()

	env = append(env, "THUMBNAILS_BUCKET=s3://thumbnails?endpoint=http://s3:7070&use_path_style=true")
	compose("--profile", "samples", "--profile", "s3", "up", "--wait")
	process(photos, 1)
	requireCompleted(photos + 1)
	require.NotEmpty(t, strings.TrimSpace(compose("exec", "-T", "s3", "sh", "-c", "ls /data/thumbnails/*/*.jpg")), "the file is in S3")
}
