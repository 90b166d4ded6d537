#!/bin/sh
# Installs the missing packages for building and running the project on this
# machine: a C compiler, libvips with its headers, PostgreSQL's server programs,
# curl; for the tests also PgBouncer and Chromium. It only checks Go. `make deps` and `make
# test` call it. If nothing is missing, it takes 0.1 s.
#
# On Debian and Ubuntu it installs packages if the user is root or may use sudo
# without a password. Elsewhere it prints the command to run, and fails.
#
#	install-deps.sh [tests]            check and install
#	install-deps.sh packages [tests]   install without checking Go, which sudo's PATH usually lacks
set -eu
cd "$(dirname "$0")/../.."

# The bindings need functions of this version. Debian 12 and Ubuntu 24.04 have
# it or a newer one.
vips_version=8.14

fail() {
	printf '%s\n' "$*" >&2
	exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

have_compiler() {
	# A compiler without libc's headers is useless.
	have "${CC:-gcc}" && printf '#include <stdlib.h>\n' | "${CC:-gcc}" -x c -fsyntax-only - 2>/dev/null
}

have_vips() { have pkg-config && pkg-config --atleast-version=$vips_version vips 2>/dev/null; }

# Looks in the directories in which package devstack looks.
have_postgres() {
	[ -z "${POSTGRES_BIN:-}" ] || return 0
	! have initdb || return 0
	for bin in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin; do
		[ ! -x "$bin/initdb" ] || return 0
	done
	return 1
}

# Looks where package devstacktest looks: only root has /usr/sbin in PATH.
have_pgbouncer() { have pgbouncer || [ -x /usr/sbin/pgbouncer ]; }

# Looks for the programs that the tests of the page look for.
have_browser() { have chromium || have chromium-browser || have google-chrome; }

have_certificates() { ! have dpkg-query || [ -s "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" ]; }

# Prints the missing codecs of libheif. Newer versions of libheif only recommend
# the packages of their codecs. Without these, HEIC and AVIF would be
# "unsupported".
missing_codecs() {
	have dpkg-query || return 0
	codecs=$(dpkg-query -W -f '${Depends}, ${Recommends}' libheif1 2>/dev/null) || return 0
	for codec in libheif-plugin-libde265 libheif-plugin-dav1d libheif-plugin-aomenc; do
		case $codecs in *"$codec"*) ;; *) continue ;; esac
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$codec" 2>/dev/null)" = installed ] || printf ' %s' "$codec"
	done
}

# Prints the names of Debian's packages that are missing.
missing_packages() {
	have_compiler || printf ' gcc libc6-dev'
	have pkg-config || printf ' pkg-config'
	have_vips || printf ' libvips-dev'
	have_postgres || printf ' postgresql'
	have curl || printf ' curl'
	[ -z "$tests" ] || have_pgbouncer || printf ' pgbouncer'
	have_certificates || printf ' ca-certificates'
	missing_codecs
}

# Installs packages as root, through the command in $as_root. If the first
# argument is "update", it first updates the package lists.
apt_install() {
	$as_root sh -eu -c '
		# A file in this directory keeps the installation from creating a
		# cluster "main" and starting it on port 5432. It is removed afterwards.
		settings=/etc/postgresql-common/createcluster.d
		log=$(mktemp)
		policy=
		trap "rm -f $settings/photo-processor.conf $log \$policy" EXIT
		trap "exit 1" HUP INT TERM
		mkdir -p $settings
		echo "create_main_cluster = false" >$settings/photo-processor.conf

		# This file keeps the installation from starting a PgBouncer on port
		# 6432. It is removed afterwards. A container usually has one already,
		# which starts no services.
		if [ ! -e /usr/sbin/policy-rc.d ]; then
			policy=/usr/sbin/policy-rc.d
			printf "%s\n" "#!/bin/sh" "[ \"\$1\" != pgbouncer ] || exit 101" >$policy
			chmod 755 $policy
		fi

		export DEBIAN_FRONTEND=noninteractive
		if [ "$1" = update ]; then
			apt-get update -qq || echo "apt-get update failed; trying with the lists that are there." >&2
		fi
		shift
		apt-get install -qq --no-install-recommends -o DPkg::Lock::Timeout=120 "$@" </dev/null >"$log" 2>&1 || {
			tail -n 30 "$log" >&2
			exit 1
		}
		# Nor does PgBouncer start with the machine.
		case " $* " in *" pgbouncer "*) update-rc.d pgbouncer disable >/dev/null 2>&1 || true ;; esac
	' install-deps "$@"
}

install_packages() {
	missing=$(missing_packages)
	[ -n "$missing" ] || return 0

	as_root=
	if ! have apt-get; then
		print_command "$missing"
	elif [ "$(id -u)" -ne 0 ]; then
		as_root=sudo
		sudo -n true 2>/dev/null || fail "These packages are missing:$missing
Install them with: sudo sh internal/devstack/install-deps.sh packages${tests:+ tests}"
	fi

	echo "Installing$missing. This is done once and takes a few minutes."
	# shellcheck disable=SC2086 # a list of words
	apt_install update $missing
	# The codecs of libheif are known only after it is installed.
	codecs=$(missing_codecs)
	# shellcheck disable=SC2086
	[ -z "$codecs" ] || apt_install keep $codecs

	missing=$(missing_packages)
	[ -z "$missing" ] || fail "Still missing after the installation:$missing. Needed are a C compiler, pkg-config, libvips $vips_version or newer (this system has $(pkg-config --modversion vips 2>/dev/null || echo none)), PostgreSQL 13 or newer, ${tests:+PgBouncer, }and curl."
}

# Installs Chromium for the tests of the page. They are skipped without it, so a
# system whose package lists lack it is no failure.
install_browser() {
	[ -n "$tests" ] && ! have_browser && have apt-get || return 0
	for list in /var/lib/apt/lists/*_Packages*; do
		# Without lists, apt does not know its packages yet.
		[ ! -e "$list" ] || apt-cache show chromium >/dev/null 2>&1 || return 0
		break
	done
	as_root=
	if [ "$(id -u)" -ne 0 ]; then
		as_root=sudo
		sudo -n true 2>/dev/null || return 0
	fi
	echo "Installing chromium. This is done once and takes a few minutes."
	apt_install update chromium || echo "Chromium is not installed. The tests of the page will be skipped." >&2
}

# Prints the command to run on a system without apt-get.
print_command() {
	more=${tests:+ pgbouncer}
	if have brew || [ "$(uname -s)" = Darwin ]; then
		command='brew install pkgconf vips postgresql@17 curl'$more'   (and xcode-select --install, if there is no C compiler)'
	elif have dnf; then
		command='sudo dnf install gcc pkgconf-pkg-config vips-devel vips-heif postgresql-server curl'$more
	elif have pacman; then
		command='sudo pacman -S --needed gcc pkgconf libvips libheif postgresql curl'$more
	elif have apk; then
		command='sudo apk add gcc musl-dev pkgconf vips-dev vips-heif postgresql curl'$more
	else
		command="your package manager: a C compiler, pkg-config, libvips $vips_version or newer with its headers, PostgreSQL's server, curl${tests:+, PgBouncer}"
	fi
	fail "These are missing, by the names of Debian's packages:$1
Install them with: $command"
}

# Prints a version such as 1.26.0 or go1.26 as a comparable number.
version_number() {
	echo "${1#go}" | awk -F '[^0-9]+' '{ print $1 * 1000000 + $2 * 1000 + $3 }'
}

check_go() {
	wanted=$(awk '$1 == "go" { print $2; exit }' go.mod)
	advice="Go $wanted or newer is needed: get it from https://go.dev/dl/"
	if ! have go; then
		[ ! -x /usr/local/go/bin/go ] || fail "Go is in /usr/local/go/bin, which PATH lacks: export PATH=\$PATH:/usr/local/go/bin"
		fail "Go is not installed. $advice"
	fi
	# Go 1.21 and newer download the version in go.mod, unless that is turned
	# off; then this command fails with the reason.
	version=$(go env GOVERSION) || fail "$advice"
	[ "$(version_number "$version")" -ge "$(version_number "$wanted")" ] || fail "$(command -v go) is $version. $advice"
}

check=yes
[ "${1:-}" != packages ] || { check= && shift; }
tests=
[ "${1:-}" != tests ] || { tests=yes && shift; }
[ $# -eq 0 ] || fail "usage: $0 [packages] [tests]"
[ -z "$check" ] || check_go # first: it takes no time, and packages take minutes
install_packages
install_browser
