package devstack

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
)

// Dir is the directory in which one stack keeps all its data. To begin anew,
// delete it while the stack is stopped.
type Dir struct {
	Root string // absolute path
}

// NewDir returns the data directory at root without creating it. If root is
// empty, it is .data in the working directory, so that two checkouts do not
// share one.
//
// For root it is /var/lib/photo-processor/<name of the working
// directory>-<digest of its path> instead: PostgreSQL then runs as another
// user, who cannot enter a checkout in root's home.
func NewDir(root string) (Dir, error) {
	var err error
	switch {
	case root != "":
	case os.Geteuid() != 0:
		root = ".data"
	default:
		root, err = rootsDataDir()
	}
	if err == nil {
		root, err = filepath.Abs(root)
	}
	if err != nil {
		return Dir{}, fmt.Errorf("DATA_DIR: %w", err)
	}
	return Dir{Root: root}, nil
}

func rootsDataDir() (string, error) {
	cwd, err := os.Getwd()
	if err != nil {
		return "", err
	}
	if cwd, err = filepath.EvalSymlinks(cwd); err != nil {
		return "", err
	}
	// Short, because the path of a Unix socket must be.
	name := regexp.MustCompile(`[^a-zA-Z0-9._-]`).ReplaceAllString(filepath.Base(cwd), "_")
	digest := sha256.Sum256([]byte(cwd))
	return fmt.Sprintf("/var/lib/photo-processor/%.24s-%s", name, hex.EncodeToString(digest[:4])), nil
}

// Create makes the directory if it does not exist. Only its owner may read it,
// and PostgreSQL's user may pass through it.
func (d Dir) Create() error {
	if err := os.MkdirAll(filepath.Dir(d.Root), 0o755); err != nil {
		return fmt.Errorf("DATA_DIR: %w", err)
	}
	err := os.Mkdir(d.Root, 0o700)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	// Without such a user, PostgreSQL reports it when it is started.
	if credential, credentialErr := PostgresUser(); err == nil && credentialErr == nil && credential != nil {
		err = errors.Join(os.Chown(d.Root, os.Geteuid(), int(credential.Gid)), os.Chmod(d.Root, 0o710))
	}
	if err != nil {
		return fmt.Errorf("DATA_DIR: %w", err)
	}
	return nil
}

// Cluster is the data directory of the cluster. The cluster and the usual stack
// share no data; only one of them runs at a time.
func (d Dir) Cluster() Dir { return Dir{Root: filepath.Join(d.Root, "cluster")} }

// IsCluster reports whether this directory is a cluster's.
func (d Dir) IsCluster() bool {
	_, err := os.Stat(d.clusterMarkerFile())
	return err == nil
}

// CreateCluster creates the directory as a cluster's.
func (d Dir) CreateCluster() error {
	if err := errors.Join((Dir{Root: filepath.Dir(d.Root)}).Create(), d.Create()); err != nil {
		return err
	}
	return os.WriteFile(d.clusterMarkerFile(), nil, 0o600)
}

// clusterMarkerFile is a file that marks the data directory of a cluster.
func (d Dir) clusterMarkerFile() string { return filepath.Join(d.Root, "is-a-cluster") }

// Log is the log of the process with this name.
func (d Dir) Log(name string) string { return filepath.Join(d.Root, "logs", name+".log") }

// Thumbnails is the default bucket of thumbnails.
func (d Dir) Thumbnails() string { return filepath.Join(d.Root, "thumbnails") }

// Samples has the sample photos that the stack serves.
func (d Dir) Samples() string { return filepath.Join(d.Root, "samples") }

// PostgresData is PostgreSQL's data directory.
func (d Dir) PostgresData() string { return filepath.Join(d.Root, "postgres") }

// PostgresSocket is the directory of PostgreSQL's socket.
func (d Dir) PostgresSocket() string { return filepath.Join(d.Root, "sock") }

// PIDFile has the number of the process with this name while it runs.
func (d Dir) PIDFile(name string) string { return filepath.Join(d.Root, "pids", name+".pid") }

func (d Dir) lock() string { return filepath.Join(d.Root, "lock") }

// control is the socket of the supervisor.
func (d Dir) control() string { return filepath.Join(d.Root, "control") }

func removeIfExists(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// maxSocketPathBytes is the longest path of a Unix socket, 107 bytes on Linux.
const maxSocketPathBytes = len(syscall.RawSockaddrUnix{}.Path) - 1

func checkSocketPath(socket string) error {
	if len(socket) > maxSocketPathBytes {
		return fmt.Errorf("the path of the socket %s is %d bytes long and may have %d at most; set DATA_DIR to a shorter path",
			socket, len(socket), maxSocketPathBytes)
	}
	return nil
}
