package devstack

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// serverUsers are the OS users that PostgreSQL may run as when we are root, the first that exists: PostgreSQL refuses to run as
// root. "postgres" comes with every package of PostgreSQL, "nobody" with every system.
var serverUsers = []string{"postgres", "nobody"}

// serverCredential returns the OS user to run PostgreSQL as: nil, which means ourselves, unless we are root.
func serverCredential() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range serverUsers {
		account, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(account.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(account.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return nil, err
		}
		// No supplementary groups: Groups is empty, and NoSetGroups is false.
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, fmt.Errorf("PostgreSQL does not run as root, and this system has none of the users %q to run it as", serverUsers)
}

// makeServerDir creates the directory for the user that credential names, mode 0700. Its parent must exist.
func makeServerDir(path string, credential *syscall.Credential) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if credential == nil {
		return nil
	}
	return os.Chown(path, int(credential.Uid), int(credential.Gid))
}

// checkReachable returns an error naming the first directory on the way to path that the user may not pass. What does not exist yet
// is passed over.
func checkReachable(path string, credential *syscall.Credential) error {
	if credential == nil {
		return nil
	}
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		path = resolved
	}
	if parent := filepath.Dir(path); parent != path {
		if err := checkReachable(parent, credential); err != nil {
			return err
		}
	}
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	pass := os.FileMode(0o001)
	switch {
	case owner.Uid == credential.Uid:
		pass = 0o100
	case owner.Gid == credential.Gid:
		pass = 0o010
	}
	if info.Mode().Perm()&pass == 0 {
		return fmt.Errorf("PostgreSQL must not run as root, and user %d, which it runs as, may not enter %s (mode %#o)",
			credential.Uid, path, info.Mode().Perm())
	}
	return nil
}
