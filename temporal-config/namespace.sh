#!/bin/sh
# Creates the namespace of the photos' workflows, or updates its retention, and
# waits until it can be used. It is safe to run again.
#
#	TEMPORAL_ADDRESS    host and port of the server
#	TEMPORAL_NAMESPACE  name of the namespace
#	TEMPORAL_RETENTION  how long closed workflows are kept for the Web UI, such as
#	                    720h; each takes about 30 kB in Temporal's databases
set -eu
namespace() { temporal operator namespace "$@" --namespace "$TEMPORAL_NAMESPACE"; }

if namespace describe >/dev/null 2>&1; then
	namespace update --retention "$TEMPORAL_RETENTION" >/dev/null
else
	namespace create --retention "$TEMPORAL_RETENTION" --description "photo-processor"
fi

# By which failed photos are found. It exists already after the first time.
temporal operator search-attribute create --namespace "$TEMPORAL_NAMESPACE" --name PhotoFailure --type Keyword >/dev/null

# The server caches for some seconds that a namespace does not exist, and its
# services need as long to find each other.
attempts=60
until answer=$(temporal task-queue describe --namespace "$TEMPORAL_NAMESPACE" --task-queue "is-the-server-ready" 2>&1); do
	attempts=$((attempts - 1))
	[ $attempts -gt 0 ] || { echo "$answer" >&2; exit 1; }
	sleep 0.5
done
