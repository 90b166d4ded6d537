#!/bin/sh
# Prints the path of promtool, which tests rules and queries. Where Prometheus is not installed, it is taken out of Debian's
# package into the directory given, in some seconds: installing that package would start a server, and building promtool from
# source takes many minutes, for it contains the clients of every cloud.
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
	# The lists of packages are missing, or too old.
	as_root=
	[ "$(id -u)" -eq 0 ] || as_root="sudo -n"
	$as_root apt-get update -qq >&2
	download
fi
dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool
mv usr/bin/promtool "$dir/promtool" # whole or not at all: others may be doing the same
echo "$dir/promtool"
