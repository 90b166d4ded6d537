package main

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/health"
)

// healthTimeout is longer than /readyz takes, and shorter than the timeout of a
// container's health check.
const healthTimeout = 5 * time.Second

// newHealth is for the health checks of containers, which have no curl.
func newHealth() *cobra.Command {
	return &cobra.Command{
		Use: "health api|worker", Short: "Exit with 0 if the API or the worker of this machine is ready",
		Long: `Request /readyz of the API at HTTP_ADDR or of the worker at METRICS_ADDR, for the
health check of its container.`,
		Args: cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs), ValidArgs: []string{"api", "worker"},
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := config.Load()
			if err != nil {
				return err
			}
			addr := cfg.HTTPAddr
			if args[0] == "worker" {
				addr = cfg.MetricsAddr
			}
			if addr == "" {
				return errors.New("configuration:\nMETRICS_ADDR: is not set, so that the worker serves no /readyz")
			}
			host, port, err := net.SplitHostPort(addr)
			if err != nil {
				return err
			}
			if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
				host = "localhost"
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), healthTimeout)
			defer cancel()
			return health.Get(ctx, "http://"+net.JoinHostPort(host, port))
		},
	}
}
