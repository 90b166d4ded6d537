package devstacktest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
)

// patience bounds every wait. Only a failing test reaches it.
const patience = time.Minute

// deathEnv makes the test binary start servers and then die in one of these ways,
// none of which runs deferred calls.
const deathEnv = "DEVSTACKTEST_DEATH"

var deaths = map[string]func(){
	"os.Exit": func() { os.Exit(1) },
	"a panic in another goroutine": func() {
		go panic("on purpose")
		select {}
	},
	"SIGKILL": func() {
		fmt.Println("alive")
		select {}
	},
}

func TestMain(m *testing.M) {
	if die, ok := deaths[os.Getenv(deathEnv)]; ok {
		_, _, postgresErr := Postgres(context.Background())
		_, _, temporalErr := Temporal(context.Background())
		if err := errors.Join(postgresErr, temporalErr); err != nil {
			fmt.Println(err)
		}
		die()
	}
	os.Exit(m.Run())
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	dsn, stop, err := Postgres(t.Context())
	require.NoError(t, err)
	defer stop()
	other, stopOther, err := Postgres(t.Context())
	require.NoError(t, err)
	defer stopOther()
	require.NotEqual(t, dsn, other)

	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "CREATE DATABASE another")
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))

	stop()
	stop()
	_, err = pgx.Connect(t.Context(), dsn)
	require.Error(t, err)
	conn, err = pgx.Connect(t.Context(), other)
	require.NoError(t, err, "it is not the same server")
	require.NoError(t, conn.Close(t.Context()))
}

func TestTemporal(t *testing.T) {
	t.Parallel()
	address, stop, err := Temporal(t.Context())
	require.NoError(t, err)
	defer stop()
	c, err := client.DialContext(t.Context(), client.Options{HostPort: address})
	require.NoError(t, err)
	defer c.Close()
	_, err = c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{TaskQueue: "nobody polls it"}, "SomeWorkflow")
	require.NoError(t, err)
	stop()
	stop()
	_, err = client.DialContext(t.Context(), client.Options{HostPort: address})
	require.Error(t, err)
}

func TestNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	for death := range deaths {
		t.Run(death, func(t *testing.T) {
			t.Parallel()
			// Short, because of the socket, and open to PostgreSQL's user.
			temp, err := os.MkdirTemp("/tmp", "left-")
			require.NoError(t, err)
			defer os.RemoveAll(temp)
			require.NoError(t, os.Chmod(temp, 0o711))

			binary, err := os.Executable()
			require.NoError(t, err)
			output, err := os.Create(filepath.Join(temp, "output"))
			require.NoError(t, err)
			defer output.Close()
			cmd := exec.Command(binary)
			cmd.Env = append(os.Environ(), deathEnv+"="+death, "TMPDIR="+temp)
			cmd.Stdout = output
			cmd.Stderr = output
			require.NoError(t, cmd.Start())
			if death == "SIGKILL" {
				require.Eventually(t, func() bool {
					text, _ := os.ReadFile(output.Name())
					return strings.Contains(string(text), "alive")
				}, patience, 5*time.Millisecond)
				require.NoError(t, cmd.Process.Kill())
			}
			require.Error(t, cmd.Wait())

			require.Eventually(t, func() bool {
				sandboxes, err := filepath.Glob(filepath.Join(temp, "photo-processor-test-*"))
				return err == nil && len(sandboxes) == 0 && len(processesNaming(t, temp)) == 0
			}, patience, 20*time.Millisecond, "%s: %v", temp, processesNaming(t, temp))
		})
	}
}

// processesNaming lists the processes with the path in their command line or working
// directory.
func processesNaming(t *testing.T, path string) []string {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(t, err)
	var naming []string
	for _, process := range processes {
		commandLine, _ := os.ReadFile(filepath.Join(process, "cmdline"))
		directory, _ := os.Readlink(filepath.Join(process, "cwd"))
		if strings.Contains(string(commandLine), path) || strings.HasPrefix(directory, path) {
			naming = append(naming, string(commandLine))
		}
	}
	return naming
}
