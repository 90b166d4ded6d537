package main

import (
	"fmt"
	"io"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/photo-processor/photo-processor/internal/client"
	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/exitcode"
)

func newPhoto() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "photo UUID",
		Short: "Show a photo with its failure and thumbnails, or delete it",
		Example: `  photo-processor photo 8f9a6b1e-0d3c-4c7e-9a55-6f2c1f2b7a10
  photo-processor photo 8f9a6b1e-0d3c-4c7e-9a55-6f2c1f2b7a10 --delete`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return exitcode.Usagef("one UUID is required")
			}
			_, err := parseUUIDArgument(args[0])
			return err
		},
	}
	output := addOutputFlag(cmd)
	remove := cmd.Flags().Bool("delete", false, "delete the photo and its thumbnails")
	setAPIRun(cmd, func(cmd *cobra.Command, args []string, api *client.Client, _ config.Config) error {
		id, err := parseUUIDArgument(args[0])
		if err != nil {
			return err
		}
		if *remove {
			err = deletePhoto(cmd, api, id, *output)
		} else {
			err = showPhoto(cmd, api, id, *output)
		}
		if client.IsNotFound(err) {
			return fmt.Errorf("there is no photo %s: %w", id, err)
		}
		return err
	})
	return cmd
}

func deletePhoto(cmd *cobra.Command, api *client.Client, id uuid.UUID, output outputFormat) error {
	err := api.DeletePhoto(cmd.Context(), id)
	if err == nil && output != outputJSON {
		fmt.Fprintln(cmd.OutOrStdout(), id, "deleted")
	}
	return err
}

func showPhoto(cmd *cobra.Command, api *client.Client, id uuid.UUID, output outputFormat) error {
	shown, err := api.Photo(cmd.Context(), id)
	switch {
	case err != nil:
		return err
	case output == outputJSON:
		return printJSON(cmd.OutOrStdout(), shown)
	}
	return printPhoto(cmd.OutOrStdout(), shown, api.ThumbnailURL)
}

func printPhoto(w io.Writer, p client.Photo, toURL func(client.Thumbnail) string) error {
	table := newTable(w)
	line := func(name string, value any) { fmt.Fprintf(table, "%s\t%s\n", name, toPrintable(fmt.Sprint(value))) }
	line("uuid", p.UUID)
	line("url", p.URL)
	line("status", p.Status)
	line("created", formatTime(p.CreatedAt))
	line("updated", formatTime(p.UpdatedAt))
	if p.Failure != nil {
		line("failure", fmt.Sprintf("%s: %s", p.Failure.Code, p.Failure.Message))
	}
	line("workflow", p.WorkflowID)
	if p.WorkflowURL != nil {
		line("web UI", *p.WorkflowURL)
	}
	for _, t := range p.Thumbnails {
		line("thumbnail", fmt.Sprintf("%dx%d %s", t.Width, t.Height, toURL(t)))
	}
	return table.Flush()
}
