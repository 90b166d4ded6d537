// Package temporalconfig embeds the configuration of Temporal's server that lies beside it, so that one file configures every
// server of ours: docker-compose mounts it, and package devstack hands its values to the development server as flags.
package temporalconfig

import _ "embed"

// DynamicConfig is dynamicconfig.yaml, in the format of Temporal's file-based dynamic configuration: a list of values, each with
// optional constraints, for every key.
//
//go:embed dynamicconfig.yaml
var DynamicConfig []byte
