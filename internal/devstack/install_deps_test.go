package devstack

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestInstallDeps runs the script with a PATH of fake programs, so that it
// installs nothing.
func TestInstallDeps(t *testing.T) {
	t.Parallel()

	// Fake programs are shell scripts.
	const fakeGo = "echo go1.26.0"
	enough := map[string]string{
		"gcc": "cat >/dev/null", "pkg-config": "exit 0", "initdb": "", "curl": "", "pgbouncer": "", "dpkg-query": "exit 1", "go": fakeGo,
	}
	without := func(names ...string) map[string]string {
		programs := map[string]string{}
		for name, script := range enough {
			programs[name] = script
		}
		for _, name := range names {
			delete(programs, name)
		}
		return programs
	}
	with := func(programs map[string]string, name, script string) map[string]string {
		programs[name] = script
		return programs
	}

	for _, tt := range []struct {
		name     string
		programs map[string]string
		args     []string
		want     string
		fails    bool
	}{
		{"nothing is missing", without(), nil, "", false},
		{"Fedora", with(without("gcc", "curl"), "dnf", ""), nil,
			"These are missing, by the names of Debian's packages: gcc libc6-dev curl\n" +
				"Install them with: sudo dnf install gcc pkgconf-pkg-config vips-devel vips-heif postgresql-server curl\n", true},
		{"Debian, and nobody who may install", with(with(with(without("curl"), "apt-get", "exit 1"), "id", "echo 1000"), "sudo", "exit 1"), nil,
			"These packages are missing: curl\nInstall them with: sudo sh internal/devstack/install-deps.sh packages\n", true},
		{"libvips is too old", with(with(without(), "pkg-config", "exit 1"), "pacman", ""), nil,
			"These are missing, by the names of Debian's packages: libvips-dev\n" +
				"Install them with: sudo pacman -S --needed gcc pkgconf libvips libheif postgresql curl\n", true},
		{"Go is too old", with(without(), "go", "echo go1.20.14"), nil,
			"is go1.20.14. Go 1.26.0 or newer is needed: get it from https://go.dev/dl/\n", true},
		{"Go may not fetch a newer one", with(without(), "go", "echo go.mod requires go 1.26 >&2; exit 1"), nil,
			"go.mod requires go 1.26\nGo 1.26.0 or newer is needed: get it from https://go.dev/dl/\n", true},
		{"no Go", without("go"), nil, "Go is ", true},
		{"for the tests", with(without("curl"), "dnf", ""), []string{"tests"}, "postgresql-server curl pgbouncer\n", true},
		{"for the tests, by root", without("go"), []string{"packages", "tests"}, "", false},
		{"no browser, and nobody who may install it", with(with(with(without(), "apt-get", "exit 1"), "id", "echo 1000"), "sudo", "exit 1"), []string{"tests"}, "", false},
		{"a browser that cannot be installed", with(with(with(without(), "apt-get", "exit 1"), "apt-cache", "exit 0"), "id", "echo 0"), []string{"tests"},
			"The tests of the page will be skipped.\n", false},
		{"a browser", with(with(without(), "apt-get", "exit 1"), "google-chrome", ""), []string{"tests"}, "", false},
		{"a mistake", without(), []string{"everything"}, "usage: ", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := t.TempDir()
			for _, name := range []string{"awk", "cat", "dirname", "sh", "uname"} {
				program, err := exec.LookPath(name)
				require.NoError(t, err)
				require.NoError(t, os.Symlink(program, filepath.Join(path, name)))
			}
			for name, script := range tt.programs {
				require.NoError(t, os.WriteFile(filepath.Join(path, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
			}
			script, err := filepath.Abs("install-deps.sh")
			require.NoError(t, err)

			cmd := exec.Command("/bin/sh", append([]string{script}, tt.args...)...)
			cmd.Dir = "/"
			cmd.Env = []string{"PATH=" + path, "SSL_CERT_FILE=" + script}
			output, err := cmd.CombinedOutput()
			if tt.fails {
				require.Error(t, err, string(output))
			} else {
				require.NoError(t, err, string(output))
			}
			require.Contains(t, string(output), tt.want)
			if tt.want == "" {
				require.Empty(t, string(output))
			}
		})
	}
}
