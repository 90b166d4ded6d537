package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/photo-processor/photo-processor/internal/config"
)

const (
	// healthTimeout is less than a container's health check may take.
	healthTimeout = 5 * time.Second

	// workerSilence is how long a worker may not have asked Temporal for tasks:
	// each of its questions waits for an answer for up to a minute.
	workerSilence = 2 * time.Minute
)

// newHealth is for the health checks of containers, which have no curl.
func newHealth() *cobra.Command {
	return &cobra.Command{
		Use: "health api|worker", Short: "Tell by the exit code whether the API or the worker of this machine works",
		Args: cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs), ValidArgs: []string{"api", "worker"},
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := config.Load()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), healthTimeout)
			defer cancel()
			if args[0] == "api" {
				return apiIsHealthy(ctx, cfg)
			}
			return workerIsHealthy(ctx, cfg)
		},
	}
}

// apiIsHealthy asks the API of this machine whether it is ready.
func apiIsHealthy(ctx context.Context, cfg config.Config) error {
	host, port, err := net.SplitHostPort(cfg.HTTPAddr)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return isReady(ctx, "http://"+net.JoinHostPort(host, port))
}

// workerIsHealthy asks Temporal whether a worker of this machine asks it for
// tasks. A container is a machine of its own.
func workerIsHealthy(ctx context.Context, cfg config.Config) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	options, err := config.Temporal(slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	known, err := pollers(ctx, options, cfg.TaskQueue)
	if err != nil {
		return err
	}
	for _, poller := range known {
		// The SDK's identity is "process@host@".
		_, at, _ := strings.Cut(poller.identity, "@")
		if strings.TrimSuffix(at, "@") == host && time.Since(poller.lastSeen) < workerSilence {
			return nil
		}
	}
	return fmt.Errorf("no worker of %s has asked Temporal for tasks in the last %s", host, workerSilence)
}
