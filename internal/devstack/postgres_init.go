package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// initPrefix begins the names of data directories that initdb has not finished.
const initPrefix = "postgres.init-"

// postgresBinPatterns are where packages install PostgreSQL's server programs
// outside PATH: Debian and Ubuntu, Fedora and Red Hat.
var postgresBinPatterns = []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin"}

// findPostgres returns the directory of initdb and postgres: POSTGRES_BIN if it
// is set, else that of PATH, else the newest that packages have installed.
func findPostgres() (string, error) {
	if bin := os.Getenv("POSTGRES_BIN"); bin != "" {
		if !hasPostgres(bin) {
			return "", fmt.Errorf("POSTGRES_BIN: %s does not have initdb and postgres", bin)
		}
		return filepath.Abs(bin)
	}
	var bins []string
	if initdb, err := exec.LookPath("initdb"); err == nil {
		if initdb, err = filepath.EvalSymlinks(initdb); err == nil {
			bins = append(bins, filepath.Dir(initdb))
		}
	}
	for _, pattern := range postgresBinPatterns {
		found, _ := filepath.Glob(pattern)
		slices.SortFunc(found, func(a, b string) int { return majorVersion(b) - majorVersion(a) })
		bins = append(bins, found...)
	}
	if i := slices.IndexFunc(bins, hasPostgres); i >= 0 {
		return bins[i], nil
	}
	return "", errors.New("PostgreSQL's server is not installed: run `make deps`, or on Debian and Ubuntu `apt-get install postgresql`, " +
		"on Fedora `dnf install postgresql-server`, on Arch `pacman -S postgresql`; " +
		"if it is installed elsewhere, set POSTGRES_BIN to the directory of initdb")
}

func hasPostgres(bin string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		if _, err := exec.LookPath(filepath.Join(bin, name)); err != nil {
			return false
		}
	}
	return true
}

// majorVersion is 15 for /usr/lib/postgresql/15/bin and /usr/pgsql-15/bin.
func majorVersion(bin string) int {
	version, _ := strconv.Atoi(strings.TrimPrefix(filepath.Base(filepath.Dir(bin)), "pgsql-"))
	return version
}

// PostgresUser returns the OS user that runs PostgreSQL: nil, the user of this
// process, unless that is root, which PostgreSQL refuses.
func PostgresUser() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	names := []string{"postgres", "nobody"} // PostgreSQL's packages create the first, every system has the second
	for _, name := range names {
		account, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(account.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(account.Gid, 10, 32)
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(uidErr, gidErr)
	}
	return nil, fmt.Errorf("PostgreSQL does not run as root, and this system has none of the users %q to run it as", names)
}

// mkdirFor creates the directory, mode 0700, for the user that credential
// names.
func mkdirFor(path string, credential *syscall.Credential) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if credential == nil {
		return nil
	}
	return os.Chown(path, int(credential.Uid), int(credential.Gid))
}

// initDataDir runs initdb if there is no data directory yet. The directory gets
// its name when it is complete: an initdb that was killed leaves one that looks
// complete but never starts.
func (p Postgres) initDataDir(ctx context.Context, bin string, credential *syscall.Credential) error {
	leftovers, err := filepath.Glob(filepath.Join(escapeGlob(p.Dir.Root), initPrefix+"*"))
	if err != nil {
		return err
	}
	for _, leftover := range leftovers {
		if err := os.RemoveAll(leftover); err != nil {
			return err
		}
	}
	if _, err := os.Stat(p.Dir.PostgresData()); err == nil {
		return nil
	}
	unfinished, err := os.MkdirTemp(p.Dir.Root, initPrefix)
	if err != nil {
		return err
	}
	defer os.RemoveAll(unfinished)
	if err := mkdirFor(unfinished, credential); err != nil {
		return err
	}
	argv := []string{
		filepath.Join(bin, "initdb"), "-D", unfinished, "-U", postgresName,
		// The socket's directory decides who connects there. By TCP only roles
		// with a password can; the superuser has none.
		"--auth-local=trust", "--auth-host=scram-sha-256",
		"--encoding=UTF8",
		"--no-locale", // sorts by bytes on every system
	}
	if p.Disposable {
		argv = append(argv, "--no-sync")
	}
	if err := run(ctx, postgresEnv(), "/", credential, argv...); err != nil {
		return err
	}
	return os.Rename(unfinished, p.Dir.PostgresData())
}

// escapeGlob makes a pattern that matches only the path.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
