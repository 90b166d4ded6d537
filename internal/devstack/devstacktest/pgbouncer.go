package devstacktest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/photo-processor/photo-processor/internal/devstack"
)

// pgBouncerPort is only a part of the name of PgBouncer's socket, which is in a
// directory of its own.
const pgBouncerPort = 6432

// PgBouncer starts a PgBouncer in transaction mode before the server of the
// connection string target. It has a pool of up to poolSize sessions for each
// database, all of target's user. dsn is the connection string of target's
// database through it. stop may be called again.
func PgBouncer(ctx context.Context, target string, poolSize int) (dsn string, stop func(), err error) {
	cfg, err := pgx.ParseConfig(target)
	if err != nil {
		return "", nil, err
	}
	program, err := findPgBouncer()
	if err != nil {
		return "", nil, err
	}
	credential, err := devstack.PostgresUser()
	if err != nil {
		return "", nil, err
	}
	d, err := newServerDir("/tmp") // TMPDIR may be too long for a socket
	if err != nil {
		return "", nil, err
	}
	socket := filepath.Join(d.dir.Root, "pgbouncer")
	settings := filepath.Join(d.dir.Root, "pgbouncer.ini")
	dsn = (&url.URL{
		Scheme: "postgres", User: url.User(cfg.User), Path: "/" + cfg.Database,
		RawQuery: url.Values{"host": {socket}, "port": {strconv.Itoa(pgBouncerPort)}}.Encode(),
	}).String()
	process := devstack.Process{
		Name: "pgbouncer", Path: program, Args: []string{settings}, Dir: "/", Credential: credential,
		LogFile: d.dir.Log("pgbouncer"), PIDFile: d.dir.PIDFile("pgbouncer"),
		Prepare: func(context.Context) error {
			if err := d.dir.Create(); err != nil {
				return err
			}
			if err := os.Mkdir(socket, 0o755); err != nil {
				return err
			}
			if credential != nil {
				if err := os.Chown(socket, int(credential.Uid), int(credential.Gid)); err != nil {
					return err
				}
			}
			return os.WriteFile(settings, pgBouncerSettings(cfg, socket, poolSize), 0o644)
		},
		ReadyTimeout: 10 * time.Second,
		Ready: func(ctx context.Context) error {
			conn, err := pgx.Connect(ctx, dsn)
			if err != nil {
				return err
			}
			return conn.Close(ctx)
		},
		// SIGTERM waits for the clients in newer versions.
		StopSignals: []syscall.Signal{syscall.SIGKILL},
	}
	stop, err = d.start(ctx, process)
	return dsn, stop, err
}

// pgBouncerSettings has the defaults of PgBouncer, except for the pool. It
// accepts any user, because only those who may enter the directory connect.
func pgBouncerSettings(cfg *pgx.ConnConfig, socket string, poolSize int) []byte {
	databases := fmt.Sprintf("* = host=%s port=%d user=%s", cfg.Host, cfg.Port, cfg.User)
	if cfg.Password != "" { // an empty value is a syntax error
		databases += " password=" + cfg.Password
	}
	return []byte(strings.Join([]string{
		"[databases]",
		databases,
		"[pgbouncer]",
		"pool_mode = transaction",
		fmt.Sprintf("default_pool_size = %d", poolSize),
		"auth_type = any",
		"listen_addr =",
		"unix_socket_dir = " + socket,
		fmt.Sprintf("listen_port = %d", pgBouncerPort),
	}, "\n") + "\n")
}

// findPgBouncer looks also where Debian installs it, which only root has in
// PATH.
func findPgBouncer() (string, error) {
	if program, err := exec.LookPath("pgbouncer"); err == nil {
		return filepath.Abs(program)
	}
	if program, err := exec.LookPath("/usr/sbin/pgbouncer"); err == nil {
		return program, nil
	}
	return "", errors.New("PgBouncer is not installed: run `make test-deps`")
}
