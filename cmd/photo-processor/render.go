package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/renderer"
	"github.com/photo-processor/photo-processor/worker"
)

// newRender is for finding out why a photo failed: it renders one file exactly as
// a worker with the same environment.
func newRender() *cobra.Command {
	return &cobra.Command{
		Use:    "render FILE [PREFIX]",
		Short:  "Render a picture as a worker would",
		Long:   "Render a picture as a worker would, and write the thumbnails to files whose names\nbegin with PREFIX. Without PREFIX, only print their sizes and the placeholder.",
		Args:   cobra.RangeArgs(1, 2),
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := config.Load()
			if err != nil {
				return err
			}
			cfg.RenderConcurrency = 1
			return render(cmd, cfg, args)
		},
	}
}

func render(cmd *cobra.Command, cfg config.Config, args []string) error {
	source, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	r, err := worker.NewRenderer(cfg, newLogger(cfg, cmd.ErrOrStderr()))
	if err != nil {
		return err
	}
	defer r.Close()
	made, err := r.Render(cmd.Context(), renderer.Bytes(source))
	if failure, ok := errors.AsType[*photo.Failure](err); ok {
		return fmt.Errorf("%s: %w", failure.Code, err)
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(cmd.OutOrStdout(), "placeholder", base64.StdEncoding.EncodeToString(made.Placeholder))
	return writeThumbnails(cmd.OutOrStdout(), made.Thumbnails, cfg.ThumbnailFormat, args[1:])
}

func writeThumbnails(out io.Writer, thumbnails []photo.EncodedThumbnail, format photo.Format, prefix []string) error {
	for _, t := range thumbnails {
		name := ""
		if len(prefix) > 0 {
			name = prefix[0] + t.Size.String() + format.Extension()
			if err := os.WriteFile(name, t.Bytes, 0o666); err != nil {
				return err
			}
		}
		fmt.Fprintln(out, t.Size, len(t.Bytes), "bytes", name)
	}
	return nil
}
