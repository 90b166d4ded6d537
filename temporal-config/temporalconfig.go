// Package temporalconfig embeds the configuration of Temporal's servers, which
// docker-compose.yml mounts and package devstack copies.
package temporalconfig

import "embed"

// DynamicConfig is dynamicconfig.yaml: for every key a list of values, each with
// optional constraints.
//
//go:embed dynamicconfig.yaml
var DynamicConfig []byte

// Files has all files of this directory that a server on PostgreSQL needs.
//
//go:embed server.yaml dynamicconfig.yaml ui.yaml databases.sql schema.sh namespace.sh
var Files embed.FS
