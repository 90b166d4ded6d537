package sandbox

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// probe is the variable that makes the test binary try one attempt, inside the
// layer of the sandbox that it names.
const probe = "SANDBOX_PROBE"

func init() {
	if os.Getenv(probe) != "" {
		runtime.LockOSThread()
	}
}

func TestMain(m *testing.M) {
	if os.Getenv(probe) == "" {
		os.Exit(m.Run())
	}
	layer, attempt, _ := strings.Cut(os.Getenv(probe), " ")
	argument := os.Getenv("SANDBOX_ARGUMENT")
	if err := layers[layer](); err != nil {
		fmt.Println("the layer cannot be applied:", err)
		os.Exit(1)
	}
	if err := attempts[attempt](argument); err != nil {
		fmt.Println("refused:", err)
		os.Exit(0)
	}
	fmt.Println("done")
}

var layers = map[string]func() error{
	"nothing": func() error { return nil },
	"sandbox": func() error {
		_, err := Enter(Limits{})
		return err
	},
	"landlock": func() error {
		_, err := enforceLandlock()
		return err
	},
	"seccomp": func() error {
		_, err := enforceSeccomp()
		return err
	},
	"limits": func() error { return setLimits(Limits{}) },
	"nobody": dropRoot,
}

// attempts are what injected code could try.
var attempts = map[string]func(argument string) error{
	"compute": func(string) error { // which must work: threads and waiting
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				runtime.LockOSThread() // and end with the goroutine
				_ = make([]byte, 1<<20)
				runtime.Gosched()
			})
		}
		all.Wait()
		runtime.GC()
		return nil
	},
	"read a file":   func(string) error { _, err := os.ReadFile("/etc/hostname"); return err },
	"list a folder": func(string) error { _, err := os.ReadDir("/"); return err },
	"look for a file": func(string) error {
		_, err := os.Stat("/etc/hostname")
		return err
	},
	"create a file": func(path string) error { return os.WriteFile(path, []byte("x"), 0o600) },
	"remove a file": os.Remove,
	"connect": func(address string) error {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			err = conn.Close()
		}
		return err
	},
	"make a socket": func(string) error {
		_, _, errno := syscall.RawSyscall(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_DGRAM, 0)
		return orNil(errno)
	},
	"signal the parent": func(string) error { return syscall.Kill(os.Getppid(), 0) },
	"share memory": func(string) error {
		_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANON)
		return err
	},
	// Flags whose value is the number of execve: a filter that confuses the
	// two would kill the process.
	"share memory, oddly": func(string) error {
		_, _, errno := syscall.RawSyscall6(unix.SYS_MMAP, 0, 4096, unix.PROT_READ, unix.SYS_EXECVE, ^uintptr(0), 0)
		return orNil(errno)
	},
	"make code": func(string) error {
		_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
		return err
	},
	"share code": func(string) error {
		_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_SHARED|unix.MAP_ANON)
		return err
	},
	"make a file code": func(string) error {
		_, err := unix.Mmap(3, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
		return err
	},
	"make data code": func(string) error {
		page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return err
		}
		return unix.Mprotect(page, unix.PROT_READ|unix.PROT_EXEC)
	},
	"raise a limit": func(string) error {
		var now unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
			return nil // "done", which fails the test: reading a limit is allowed
		}
		return unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: now.Cur, Max: now.Max})
	},
	"write to a file that is open": func(path string) error {
		_, err := os.NewFile(3, path).Write([]byte("x"))
		return err
	},
	"execute":       func(string) error { return syscall.Exec("/bin/true", []string{"true"}, nil) },
	"run a program": func(string) error { return exec.Command("/bin/true").Run() },
	"fork": func(string) error {
		child, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if errno == 0 && child == 0 {
			_, _, _ = syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
		return orNil(errno)
	},
	"trace": func(string) error {
		_, _, errno := syscall.RawSyscall(unix.SYS_PTRACE, unix.PTRACE_TRACEME, 0, 0)
		return orNil(errno)
	},
	"read another's memory": func(pid string) error {
		n, _ := strconv.Atoi(pid)
		var b [1]byte
		local := unix.Iovec{Base: &b[0], Len: 1}
		_, _, errno := syscall.RawSyscall6(unix.SYS_PROCESS_VM_READV, uintptr(n), uintptr(unsafe.Pointer(&local)), 1, 0, 0, 0)
		return orNil(errno)
	},
	"become root": func(string) error {
		_, _, errno := syscall.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0)
		return orNil(errno)
	},
	"leave the namespaces": func(string) error { return unix.Unshare(unix.CLONE_NEWUSER) },
}

func orNil(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

// try runs an attempt inside a layer. It returns "done", "refused", or "killed"
// if the filter killed the process.
func try(t *testing.T, layer, attempt, argument string, files ...*os.File) string {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = []string{probe + "=" + layer + " " + attempt, "SANDBOX_ARGUMENT=" + argument, "GORACE=atexit_sleep_ms=0"}
	cmd.ExtraFiles = files
	output, err := cmd.CombinedOutput()
	t.Logf("%s: %v\n%s", layer, err, output)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if status := exit.Sys().(syscall.WaitStatus); status.Signaled() && status.Signal() == unix.SIGSYS {
			return "killed"
		}
		t.Fatalf("%s inside %s: %v", attempt, layer, err)
	}
	switch {
	case err == nil && len(output) == 0: // execve succeeded
		return "done"
	case strings.HasPrefix(string(output), "done"):
		return "done"
	case strings.HasPrefix(string(output), "refused: "):
		return "refused"
	}
	t.Fatalf("%s inside %s: no answer", attempt, layer)
	return ""
}

// TestSandbox tries each attempt twice: outside the sandbox, where it succeeds
// and so proves that it is a valid attempt, and inside.
func TestSandbox(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })

	for attempt, want := range map[string]string{
		"compute":                      "done",
		"read a file":                  "refused",
		"list a folder":                "refused",
		"look for a file":              "refused",
		"create a file":                "refused",
		"remove a file":                "refused",
		"write to a file that is open": "refused",
		"connect":                      "refused",
		"make a socket":                "refused",
		"signal the parent":            "refused",
		"share memory":                 "refused",
		"share memory, oddly":          "refused",
		"make code":                    "done", // which Orc needs
		"share code":                   "refused",
		"make a file code":             "refused",
		"make data code":               "refused",
		"raise a limit":                "refused",
		"execute":                      "killed",
		"run a program":                "refused", // at the pipe that os/exec needs first
		"fork":                         "killed",
		"trace":                        "killed",
		"read another's memory":        "killed",
		"become root":                  "killed",
		"leave the namespaces":         "killed",
	} {
		t.Run(attempt, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			require.NoError(t, os.Chmod(dir, 0o777))
			argument, outside := "", "done"
			var files []*os.File
			switch attempt {
			case "connect":
				argument = listener.Addr().String()
			case "create a file":
				argument = filepath.Join(dir, "created")
			case "remove a file":
				argument = filepath.Join(dir, "there")
				require.NoError(t, os.WriteFile(argument, nil, 0o666))
			case "write to a file that is open", "make a file code":
				file, err := os.Create(filepath.Join(dir, "open"))
				require.NoError(t, err)
				defer file.Close()
				files = append(files, file)
			case "read another's memory":
				argument = strconv.Itoa(os.Getpid())
			case "become root":
				if os.Getuid() != 0 {
					outside = "refused"
				}
			case "share memory, oddly":
				outside = "refused" // the flags are invalid
			case "leave the namespaces":
				if os.Getuid() != 0 {
					t.Skip("the machine's configuration decides whether users may")
				}
				outside = "refused" // the kernel refuses programs with several threads
			}
			require.Equal(t, outside, try(t, "nothing", attempt, argument, files...))
			if attempt == "remove a file" {
				require.NoError(t, os.WriteFile(argument, nil, 0o666))
			}
			require.Equal(t, want, try(t, "sandbox", attempt, argument, files...))
		})
	}
}

// TestLayersAlone tries the most important attempts inside single layers.
func TestLayersAlone(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	landlock, err := landlockABI()
	require.NoError(t, err)

	for _, test := range []struct{ layer, attempt, want string }{
		{"seccomp", "read a file", "refused"},
		{"seccomp", "connect", "refused"},
		{"seccomp", "execute", "killed"},
		{"landlock", "read a file", "refused"},
		{"landlock", "connect", "refused"},
		{"landlock", "execute", "refused"},
		{"landlock", "signal the parent", "refused"},
		{"nobody", "become root", "refused"},
	} {
		t.Run(test.layer+": "+test.attempt, func(t *testing.T) {
			t.Parallel()
			if test.layer == "landlock" && landlock < 6 {
				t.Skipf("this kernel's Landlock (ABI %d) lacks some of this", landlock)
			}
			require.Equal(t, test.want, try(t, test.layer, test.attempt, listener.Addr().String()))
		})
	}
}

func landlockABI() (int, error) {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno == unix.ENOSYS || errno == unix.EOPNOTSUPP {
		return 0, nil
	}
	return int(abi), orNil(errno)
}
