#!/bin/sh
# Creates the namespace that the photos' workflows are in, or brings its settings to what is wanted. It can be run again at any time.
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
