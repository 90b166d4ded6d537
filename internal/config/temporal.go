package config

import (
	"fmt"
	"log/slog"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/log"
)

// Temporal gives the options of the connection to Temporal, by the variables
// and the file of Temporal's own tools.
func Temporal(logger *slog.Logger) (client.Options, error) {
	options, err := envconfig.LoadDefaultClientOptions()
	if err != nil {
		return client.Options{}, fmt.Errorf("configuration of Temporal (TEMPORAL_… variables and its file): %w", err)
	}
	options.Logger = log.NewStructuredLogger(logger)
	// Our messages have some hundred bytes. To compress them, as the SDK does
	// unless told otherwise, costs both sides much and saves nobody anything.
	options.ConnectionOptions.GrpcCompression = &client.GrpcCompressionNone{}
	return options, nil
}
