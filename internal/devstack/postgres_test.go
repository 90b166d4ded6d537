package devstack

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func startPostgres(t *testing.T, postgres Postgres) *Child {
	t.Helper()
	process, err := postgres.Process()
	require.NoError(t, err)
	return start(t, process)
}

// query returns the one value that the statement gives, as text.
func query(t *testing.T, postgres Postgres, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(testContext(t), postgres.DSN())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.Background())) }()
	var value string
	require.NoError(t, conn.QueryRow(testContext(t), sql).Scan(&value))
	return value
}

// TestPostgresKeepsData stops and kills a durable server in several ways.
func TestPostgresKeepsData(t *testing.T) {
	t.Parallel()
	postgres := Postgres{Dir: newTestDir(t)}
	pidFile := filepath.Join(postgres.Dir.PostgresData(), "postmaster.pid")

	// What an interrupted initdb leaves.
	unfinished := filepath.Join(postgres.Dir.Root, initPrefix+"1234")
	require.NoError(t, os.MkdirAll(filepath.Join(unfinished, "base"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(unfinished, "PG_VERSION"), []byte("15\n"), 0o600))

	child := startPostgres(t, postgres)
	require.NoDirExists(t, unfinished)
	require.NoError(t, postgres.exec(testContext(t), postgresName, "CREATE TABLE kept AS SELECT 'value' AS column"))

	whole := t
	restart := func(t *testing.T) {
		t.Helper()
		process, err := postgres.Process()
		require.NoError(t, err)
		child = startUntil(whole, t, process)
		require.Equal(t, "value", query(t, postgres, "SELECT * FROM kept"))
	}
	t.Run("when stopped", func(t *testing.T) {
		require.NoError(t, child.Stop())
		require.NoFileExists(t, pidFile)
		restart(t)
	})
	t.Run("when killed", func(t *testing.T) {
		kill(t, child)
		restart(t)
	})
	t.Run("when killed in the middle of a computation", func(t *testing.T) {
		var client sync.WaitGroup
		defer client.Wait()
		client.Go(func() { _ = postgres.exec(t.Context(), postgresName, "DO 'BEGIN LOOP END LOOP; END'") })
		eventually(t, func() bool {
			return query(t, postgres, "SELECT count(*)::text FROM pg_stat_activity WHERE query LIKE 'DO %' AND state = 'active'") == "1"
		}, "the computation has not begun")
		kill(t, child)
		restart(t)
	})
	t.Run("when killed, and another process has its PID", func(t *testing.T) {
		kill(t, child)
		text := readFile(t, pidFile)
		_, rest, _ := strings.Cut(text, "\n")
		// PostgreSQL ignores processes of other users.
		other := shell(postgres.Dir, "other", sleeper)
		credential, err := PostgresUser()
		require.NoError(t, err)
		other.Credential = credential
		pid := strconv.Itoa(start(t, other).PID())
		require.NoError(t, os.WriteFile(pidFile, []byte(pid+"\n"+rest), 0o600))
		restart(t)
	})
	t.Run("when another server uses it", func(t *testing.T) {
		other := child
		restart(t)
		require.False(t, isRunning(other.PID()))
	})
}

func TestPostgresSettings(t *testing.T) {
	t.Parallel()
	// All characters that are special in connection strings, lists and
	// patterns.
	dir := Dir{Root: filepath.Join(newTestDir(t).Root, `a b+c%41"d'[e]*&?#`)}
	postgres := Postgres{Dir: dir, Disposable: true}
	child := startPostgres(t, postgres)

	for setting, want := range map[string]string{
		"listen_addresses": "", "server_encoding": "UTF8", "lc_collate": "C", "TimeZone": "UTC", "max_connections": "200",
		"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off",
	} {
		require.Equal(t, want, query(t, postgres, fmt.Sprintf("SELECT current_setting('%s')", setting)), setting)
	}
	require.Equal(t, "photos photos true", query(t, postgres,
		"SELECT format('%s %s %s', current_user, current_database(), rolsuper::text) FROM pg_roles WHERE rolname = current_user"))
	info, err := os.Stat(dir.PostgresSocket())
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())

	t.Run("psql takes the same URL", func(t *testing.T) {
		psql, err := exec.LookPath("psql")
		if err != nil {
			t.Skip("no psql")
		}
		output, err := exec.Command(psql, "--no-psqlrc", "-At", "-c", "SELECT current_database()", postgres.DSN()).CombinedOutput()
		require.NoError(t, err, string(output))
		require.Equal(t, "photos\n", string(output))
	})

	require.NoError(t, child.Stop())
	durable := Postgres{Dir: dir}
	startPostgres(t, durable)
	for setting, want := range map[string]string{"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"} {
		require.Equal(t, want, query(t, durable, fmt.Sprintf("SELECT current_setting('%s')", setting)), setting)
	}
}

func TestPostgresInitInterrupted(t *testing.T) {
	t.Parallel()
	postgres := Postgres{Dir: newTestDir(t), Disposable: true}
	process, err := postgres.Process()
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(testContext(t))
	go func() {
		defer cancel()
		awaitCondition(ctx, func() bool {
			found, _ := filepath.Glob(filepath.Join(postgres.Dir.Root, initPrefix+"*", "PG_VERSION"))
			return len(found) > 0
		})
	}()
	_, err = process.Start(ctx)
	require.Error(t, err)
	require.NoDirExists(t, postgres.Dir.PostgresData())
	left, err := filepath.Glob(filepath.Join(postgres.Dir.Root, initPrefix+"*"))
	require.NoError(t, err)
	require.Empty(t, left)

	child, err := process.Start(testContext(t))
	require.NoError(t, err)
	require.NoError(t, child.Stop())
}

func TestPostgresTellsWhyItStops(t *testing.T) {
	t.Parallel()
	postgres := Postgres{Dir: newTestDir(t), Disposable: true}
	require.NoError(t, os.Mkdir(postgres.Dir.PostgresData(), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(postgres.Dir.PostgresData(), "PG_VERSION"), []byte("9.6\n"), 0o644))
	if credential, err := PostgresUser(); err == nil && credential != nil {
		require.NoError(t, os.Chown(postgres.Dir.PostgresData(), int(credential.Uid), int(credential.Gid)))
	}
	process, err := postgres.Process()
	require.NoError(t, err)
	_, err = process.Start(testContext(t))
	require.ErrorContains(t, err, "postgres stopped before it was ready (exit status")
	require.ErrorContains(t, err, postgres.Dir.Log("postgres"))
}

func TestFindPostgres(t *testing.T) {
	none := t.TempDir()
	t.Run("POSTGRES_BIN comes first", func(t *testing.T) {
		t.Setenv("POSTGRES_BIN", none)
		_, err := findPostgres()
		require.EqualError(t, err, "POSTGRES_BIN: "+none+" does not have initdb and postgres")

		bin := filepath.Join(t.TempDir(), "15", "bin")
		require.NoError(t, os.MkdirAll(bin, 0o755))
		for _, name := range []string{"initdb", "postgres"} {
			require.NoError(t, os.WriteFile(filepath.Join(bin, name), nil, 0o755))
		}
		t.Setenv("POSTGRES_BIN", bin)
		found, err := findPostgres()
		require.NoError(t, err)
		require.Equal(t, bin, found)
	})
	t.Run("then PATH, through links", func(t *testing.T) {
		installed, path := t.TempDir(), t.TempDir()
		for _, name := range []string{"initdb", "postgres"} {
			require.NoError(t, os.WriteFile(filepath.Join(installed, name), nil, 0o755))
		}
		require.NoError(t, os.Symlink(filepath.Join(installed, "initdb"), filepath.Join(path, "initdb")))
		t.Setenv("POSTGRES_BIN", "")
		t.Setenv("PATH", path)
		found, err := findPostgres()
		require.NoError(t, err)
		require.Equal(t, installed, found)
	})
	t.Run("then packages, and the error says how to install one", func(t *testing.T) {
		patterns := postgresBinPatterns
		t.Cleanup(func() { postgresBinPatterns = patterns })
		packages := t.TempDir()
		postgresBinPatterns = []string{packages + "/*/bin"}
		t.Setenv("POSTGRES_BIN", "")
		t.Setenv("PATH", none)
		_, err := findPostgres()
		require.ErrorContains(t, err, "apt-get install postgresql")

		for _, version := range []string{"9", "13", "17"} {
			bin := filepath.Join(packages, version, "bin")
			require.NoError(t, os.MkdirAll(bin, 0o755))
			for _, name := range []string{"initdb", "postgres"} {
				require.NoError(t, os.WriteFile(filepath.Join(bin, name), nil, 0o755))
			}
		}
		found, err := findPostgres()
		require.NoError(t, err)
		require.Equal(t, filepath.Join(packages, "17", "bin"), found, "the newest")
	})
}

func TestMajorVersion(t *testing.T) {
	t.Parallel()
	for bin, want := range map[string]int{"/usr/lib/postgresql/15/bin": 15, "/usr/pgsql-17/bin": 17, "/usr/bin": 0} {
		require.Equal(t, want, majorVersion(bin), bin)
	}
}
