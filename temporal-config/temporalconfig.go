// Package temporalconfig embeds the configuration of Temporal's servers that lies beside it, so that the same files configure every
// server of ours: docker-compose mounts them, and package devstack hands them to the servers that it runs without Docker.
package temporalconfig

import "embed"

// DynamicConfig is dynamicconfig.yaml, in the format of Temporal's file-based dynamic configuration: a list of values, each with
// optional constraints, for every key.
//
//go:embed dynamicconfig.yaml
var DynamicConfig []byte

// Files are all that a server on PostgreSQL needs, by their names in this directory.
//
//go:embed server.yaml dynamicconfig.yaml ui.yaml databases.sql schema.sh namespace.sh
var Files embed.FS
