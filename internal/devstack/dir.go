package devstack

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// rootsDataDir is where root's data directories are.
const rootsDataDir = "/var/lib/photo-processor"

// Dir is the directory that one instance of the stack keeps all its data in. Deleting it while the stack is stopped is the way to
// begin anew.
type Dir struct {
	// Root is its absolute path.
	Root string
}

// DefaultDataDir returns the data directory of a stack started in the current working directory: DATA_DIR if that is set,
// otherwise .data right there, so that two checkouts do not meet.
//
// Root gets /var/lib/photo-processor/<name of the working directory>-<digest of its path> instead: PostgreSQL runs as another
// user then, who could not enter a checkout in root's home. Not the whole path, since the names of Unix sockets must be short.
func DefaultDataDir() (Dir, error) {
	if root := os.Getenv("DATA_DIR"); root != "" {
		return NewDir(root)
	}
	cwd, err := os.Getwd()
	if err != nil {
		return Dir{}, err
	}
	// The same directory may be entered by several names.
	if cwd, err = filepath.EvalSymlinks(cwd); err != nil {
		return Dir{}, err
	}
	if os.Geteuid() != 0 {
		return NewDir(filepath.Join(cwd, ".data"))
	}
	return NewDir(filepath.Join(rootsDataDir, instanceName(cwd)))
}

// instanceName names a directory in one path element of at most 33 bytes.
func instanceName(path string) string {
	const maxNameBytes, digestBytes = 24, 4
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
			return r
		}
		return '_'
	}, filepath.Base(path))
	digest := sha256.Sum256([]byte(path))
	return name[:min(len(name), maxNameBytes)] + "-" + hex.EncodeToString(digest[:digestBytes])
}

// NewDir returns the data directory at root. Nothing is created.
func NewDir(root string) (Dir, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return Dir{}, fmt.Errorf("DATA_DIR: %w", err)
	}
	return Dir{Root: root}, nil
}

// Create makes the directory itself if it does not exist. What is in it is made by whoever needs it.
func (d Dir) Create() error {
	if err := os.MkdirAll(filepath.Dir(d.Root), 0o755); err != nil {
		return fmt.Errorf("DATA_DIR: %w", err)
	}
	// Photos, logs and databases are nobody else's business.
	err := os.Mkdir(d.Root, 0o700)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	// But the user whom PostgreSQL runs as must pass through to its own directories. It is no matter here if there is none.
	if credential, credentialErr := serverCredential(); err == nil && credentialErr == nil && credential != nil {
		err = errors.Join(os.Chown(d.Root, os.Geteuid(), int(credential.Gid)), os.Chmod(d.Root, 0o710))
	}
	if err != nil {
		return fmt.Errorf("DATA_DIR: %w", err)
	}
	return nil
}

// Cluster is where the cluster has its data: a [TemporalServer] and what goes with it. It runs instead of the usual stack, and shares
// nothing with it.
func (d Dir) Cluster() Dir { return Dir{Root: filepath.Join(d.Root, "cluster")} }

// IsCluster tells whether this directory is a cluster's.
func (d Dir) IsCluster() bool {
	_, err := os.Stat(d.clusterMark())
	return err == nil
}

// MakeCluster makes this directory a cluster's.
func (d Dir) MakeCluster() error {
	// The user whom PostgreSQL runs as must pass through all that we make.
	if err := errors.Join((Dir{Root: filepath.Dir(d.Root)}).Create(), d.Create()); err != nil {
		return err
	}
	return writeFile(d.clusterMark(), nil)
}

func (d Dir) clusterMark() string { return filepath.Join(d.Root, "is-a-cluster") }

// Logs has one file for each process: <name>.log, and the one before it as <name>.log.1.
func (d Dir) Logs() string { return filepath.Join(d.Root, "logs") }

// Log is the log of one process.
func (d Dir) Log(name string) string { return filepath.Join(d.Logs(), name+".log") }

// Sources is where workers keep fetched sources that wait to be rendered.
func (d Dir) Sources() string { return filepath.Join(d.Root, "sources") }

// Thumbnails is the default bucket of thumbnails.
func (d Dir) Thumbnails() string { return filepath.Join(d.Root, "thumbnails") }

// Samples has the sample photos that the stack serves to itself.
func (d Dir) Samples() string { return filepath.Join(d.Root, "samples") }

// PostgresData is PostgreSQL's cluster.
func (d Dir) PostgresData() string { return filepath.Join(d.Root, "postgres") }

// PostgresSocket is the directory of PostgreSQL's socket. Its name is short because the socket's must be.
func (d Dir) PostgresSocket() string { return filepath.Join(d.Root, "sock") }

// TemporalDB is the SQLite database of Temporal's development server.
func (d Dir) TemporalDB() string { return filepath.Join(d.Root, temporalDBName) }

// PIDFile records the running process of this name.
func (d Dir) PIDFile(name string) string { return filepath.Join(d.pids(), name+".pid") }

func (d Dir) pids() string  { return filepath.Join(d.Root, "pids") }
func (d Dir) lock() string  { return filepath.Join(d.Root, "lock") }
func (d Dir) state() string { return filepath.Join(d.Root, "state.json") }

// maxSocketPathBytes is how long the operating system lets the path of a Unix socket be: 107 bytes on Linux, 103 on macOS.
const maxSocketPathBytes = len(syscall.RawSockaddrUnix{}.Path) - 1

// checkSocketPath returns an error naming DATA_DIR, what is asked and what is allowed if a socket of this path cannot be used.
func checkSocketPath(socket string) error {
	if len(socket) > maxSocketPathBytes {
		return fmt.Errorf("the path of PostgreSQL's socket %s is %d bytes long and may have %d at most; set DATA_DIR to a shorter path",
			socket, len(socket), maxSocketPathBytes)
	}
	// A host in a connection string is a list, separated by commas that cannot be escaped.
	if strings.Contains(socket, ",") {
		return fmt.Errorf("the path of PostgreSQL's socket %s has a comma, which connection strings cannot express; set DATA_DIR to a path without",
			socket)
	}
	return nil
}
