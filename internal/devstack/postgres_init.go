package devstack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// minPostgresVersion is the first major version with gen_random_uuid() and no extension.
const minPostgresVersion = 13

// initPrefix begins the names of clusters that are being made, beside the finished one.
const initPrefix = "postgres.init-"

// postgresBinPatterns are where packages put PostgreSQL's server programs without putting them into PATH: Debian and Ubuntu, then
// the packages of postgresql.org for Fedora and Red Hat, then Homebrew on both kinds of Mac.
var postgresBinPatterns = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/opt/homebrew/opt/postgresql*/bin",
	"/usr/local/opt/postgresql*/bin",
}

// findPostgres returns the directory with initdb and postgres: POSTGRES_BIN if that is set, otherwise that of PATH, otherwise the
// newest that packages have installed. For an existing cluster it prefers the version that made it, since no other can read it.
func findPostgres(data string) (string, error) {
	if bin := os.Getenv("POSTGRES_BIN"); bin != "" {
		if !hasPostgres(bin) {
			return "", fmt.Errorf("POSTGRES_BIN: %s does not have initdb and postgres", bin)
		}
		return filepath.Abs(bin)
	}

	var bins []string
	if initdb, err := exec.LookPath("initdb"); err == nil {
		// A link leads to where postgres is, too.
		if initdb, err = filepath.EvalSymlinks(initdb); err == nil {
			bins = append(bins, filepath.Dir(initdb))
		}
	}
	for _, pattern := range postgresBinPatterns {
		found, _ := filepath.Glob(pattern)
		slices.SortFunc(found, func(a, b string) int { return versionIn(b) - versionIn(a) })
		bins = append(bins, found...)
	}
	bins = slices.DeleteFunc(bins, func(bin string) bool { return !hasPostgres(bin) })
	if len(bins) == 0 {
		return "", errors.New("PostgreSQL's server is not installed: run `make deps`, or on Debian and Ubuntu `apt-get install postgresql`, " +
			"on Fedora `dnf install postgresql-server`, on Arch `pacman -S postgresql`, on macOS `brew install postgresql@17`; " +
			"if it is installed elsewhere, set POSTGRES_BIN to the directory of initdb")
	}
	if version := clusterVersion(data); version != "" {
		for _, bin := range bins {
			if strconv.Itoa(versionIn(bin)) == version {
				return bin, nil
			}
		}
	}
	return bins[0], nil
}

func hasPostgres(bin string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		if _, err := exec.LookPath(filepath.Join(bin, name)); err != nil {
			return false
		}
	}
	return true
}

// versionIn is the major version in the path of an installation: 15 in /usr/lib/postgresql/15/bin. 0 when there is none.
func versionIn(bin string) int {
	match := versionPattern.FindStringSubmatch(filepath.Base(filepath.Dir(bin)))
	if match == nil {
		return 0
	}
	version, _ := strconv.Atoi(match[1])
	return version
}

// versionPattern finds the major version in 15, pgsql-15, postgresql@15 and 15.4.
var versionPattern = regexp.MustCompile(`^(?:pgsql-|postgresql@)?([0-9]+)(?:\.[0-9]+)?$`)

// clusterVersion is the major version of PostgreSQL that made the cluster, as its programs spell it. Empty when there is none.
func clusterVersion(data string) string {
	version, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(version))
}

// initCluster makes the cluster if there is none. It is made under another name and renamed when it is whole: one that was
// interrupted half way looks like a cluster but never starts.
func (p Postgres) initCluster(ctx context.Context, bin string, credential *syscall.Credential) error {
	// Whoever is here holds the data directory, so nobody else is making one.
	leftovers, err := filepath.Glob(filepath.Join(escapeGlob(p.Dir.Root), initPrefix+"*"))
	if err != nil {
		return err
	}
	for _, leftover := range leftovers {
		if err := os.RemoveAll(leftover); err != nil {
			return err
		}
	}
	if clusterVersion(p.Dir.PostgresData()) != "" {
		return nil
	}

	unfinished, err := os.MkdirTemp(p.Dir.Root, initPrefix)
	if err != nil {
		return err
	}
	defer os.RemoveAll(unfinished)
	if err := makeServerDir(unfinished, credential); err != nil {
		return err
	}
	args := []string{
		"-D", unfinished,
		"-U", postgresName,
		// Who can reach the socket is decided by its directory. By TCP, if it listens there at all, roles with a password can
		// come; the superuser has none.
		"--auth-local=trust",
		"--auth-host=scram-sha-256",
		"--encoding=UTF8",
		// Sorts by bytes, on every system alike, and needs no locale installed.
		"--no-locale",
	}
	if p.Disposable {
		args = append(args, "--no-sync")
	}
	if err := initdb(ctx, bin, args, credential); err != nil {
		return err
	}
	if version, _ := strconv.Atoi(clusterVersion(unfinished)); version < minPostgresVersion {
		return fmt.Errorf("PostgreSQL %d or newer is needed, and %s is %s; set POSTGRES_BIN to a newer one",
			minPostgresVersion, bin, clusterVersion(unfinished))
	}
	return os.Rename(unfinished, p.Dir.PostgresData())
}

func initdb(ctx context.Context, bin string, args []string, credential *syscall.Credential) error {
	cmd := exec.Command(filepath.Join(bin, "initdb"), args...)
	cmd.Env = postgresEnv()
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	return run(ctx, cmd)
}

// escapeGlob makes the path match itself only.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
