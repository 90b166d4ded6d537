package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/devstack"
	"github.com/photo-processor/photo-processor/internal/samples"
)

// newSamples is for stacks that have no sample photos of their own.
func newSamples() *cobra.Command {
	var listen string
	command := &cobra.Command{
		Use: "samples", Short: "Serve the sample photos", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load()
			if err != nil {
				return err
			}
			dir, err := devstack.NewDir(cfg.DataDir)
			if err != nil {
				return err
			}
			listener, err := net.Listen("tcp", listen)
			if err != nil {
				return err
			}
			newLogger(cfg, cmd.ErrOrStderr()).Info("sample photos are ready", "address", listener.Addr())
			return serveSamples(cmd.Context(), listener, dir)
		},
	}
	command.Flags().StringVar(&listen, "listen", "127.0.0.1:3100", "where")
	return command
}

// serveSamples serves the sample photos until the context is done.
func serveSamples(ctx context.Context, listener net.Listener, dir devstack.Dir) error {
	server := &http.Server{Handler: samples.Handler(dir.Samples()), ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	err := server.Serve(listener)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
