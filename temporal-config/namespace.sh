#!/bin/sh
# Creates the namespace that the photos' workflows are in, or brings its settings to what is wanted, and ends when it can be used. It
# can be run again at any time.
#
#	TEMPORAL_ADDRESS    host and port of the server
#	TEMPORAL_NAMESPACE  its name
#	TEMPORAL_RETENTION  how long finished workflows are kept, such as 720h: what the Web UI can still show. One takes some 10 kB
set -eu
namespace() { temporal operator namespace "$@" --namespace "$TEMPORAL_NAMESPACE"; }

if namespace describe >/dev/null 2>&1; then
	namespace update --retention "$TEMPORAL_RETENTION" >/dev/null
else
	namespace create --retention "$TEMPORAL_RETENTION" --description "photo-processor"
fi

# The server keeps for some seconds in mind which namespaces there are not, and its services need as long to find each other.
attempts=60
until answer=$(temporal task-queue describe --namespace "$TEMPORAL_NAMESPACE" --task-queue "is-the-server-ready" 2>&1); do
	attempts=$((attempts - 1))
	[ $attempts -gt 0 ] || { echo "$answer" >&2; exit 1; }
	sleep 0.5
done
