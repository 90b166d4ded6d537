#!/bin/sh
# Prints the path of promtool, which tests rules and queries. If Prometheus is
# not installed, this script extracts promtool from Debian's package into the
# given directory, in a few seconds. Installing the package would start a
# server. A build from source takes many minutes, because it includes the
# clients of every cloud.
set -eu
if command -v promtool; then
	exit 0
fi
dir=${1:?usage: promtool.sh DIRECTORY}
if [ -x "$dir/promtool" ]; then
	echo "$dir/promtool"
	exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
	echo "promtool is missing: install Prometheus with your package manager." >&2
	exit 1
fi
mkdir -p "$dir"
unpacked=$(mktemp -d "$dir/unpack.XXXXXX")
trap 'rm -rf "$unpacked"' EXIT
cd "$unpacked"
download() { apt-get download -qq -o APT::Sandbox::User=root prometheus >&2; }
if ! download; then
	# The package lists are missing or too old.
	as_root=
	[ "$(id -u)" -eq 0 ] || as_root="sudo -n"
	$as_root apt-get update -qq >&2
	download
fi
dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool
mv usr/bin/promtool "$dir/promtool" # atomic, because other processes may run this script
echo "$dir/promtool"
