package sandbox

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

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

// TestSandbox tries each attempt twice: outside the sandbox, where it succeeds
// and so proves that it is a valid attempt, and inside.
func TestSandbox(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })

	for attempt, want := range map[string]string{
		"compute":                           "done",
		"read a file":                       "refused",
		"list a folder":                     "refused",
		"look for a file":                   "refused",
		"create a file":                     "refused",
		"remove a file":                     "refused",
		"write to a file that is open":      "refused",
		"connect":                           "refused",
		"make a socket":                     "refused",
		"signal another":                    "refused",
		"signal a thread":                   "refused",
		"signal its thread":                 "refused",
		"read another's scheduling":         "refused",
		"change another's scheduling":       "refused",
		"read another's scheduler":          "refused",
		"read another's real-time priority": "refused",
		"read another's CPUs":               "refused",
		"read another's locks":              "refused",
		"read another's limits":             "refused",
		"read another's niceness":           "refused",
		"read another's I/O priority":       "refused",
		"read another's capabilities":       "refused",
		"read another's session":            "refused",
		"read another's group":              "refused",
		"read another's pages":              "refused",
		"read another's CPU time":           "refused",
		"open another by a descriptor":      "killed",
		"compare another with the next":     "killed",
		"inherit a priority":                "refused",
		"share memory":                      "refused",
		"share memory, oddly":               "refused",
		"fill memory and make it read-only": "refused",
		"make page tables by reading":       "refused",
		"make page tables of guards":        "refused",
		"map a growing stack":               "refused",
		"enlarge memory in place":           "refused",
		"make code":                         "done", // which Orc needs
		"share code":                        "refused",
		"make a file code":                  "refused",
		"make data code":                    "refused",
		"raise a limit":                     "refused",
		"execute":                           "killed",
		"run a program":                     "refused", // at the pipe that os/exec needs first
		"fork":                              "killed",
		"trace":                             "killed",
		"read another's memory":             "killed",
		"become root":                       "killed",
		"leave the namespaces":              "killed",
	} {
		t.Run(attempt, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			require.NoError(t, os.Chmod(dir, 0o777))
			argument, outside := strconv.Itoa(os.Getpid()), "done"
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
			case "make page tables of guards":
				if attempts[attempt]("") != nil {
					outside = "refused" // before Linux 6.13
				}
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
		{"landlock", "signal another", "refused"},
		{"nobody", "become root", "refused"},
	} {
		t.Run(test.layer+": "+test.attempt, func(t *testing.T) {
			t.Parallel()
			if test.layer == "landlock" && landlock < 6 {
				t.Skipf("this kernel's Landlock (ABI %d) lacks some of this", landlock)
			}
			argument := listener.Addr().String()
			if test.attempt == "signal another" {
				argument = strconv.Itoa(os.Getpid())
			}
			require.Equal(t, test.want, try(t, test.layer, test.attempt, argument))
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
