package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/photo-processor/photo-processor/internal/client"
	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/exitcode"
)

// defaultBatches is how many batches the command lists by default: one screen.
const defaultBatches = 20

func newBatches() *cobra.Command {
	var limit int
	var watch, cancel bool
	cmd := &cobra.Command{
		Use:   "batches [ID]",
		Short: "List the recent batches, or show, watch or cancel one",
		Long: `List the recent batches, newest first; or show one batch with its failures by code.

With --watch the command waits until all photos of the batch are completed or failed,
shows the batch, and exits with 1 if a photo failed. With --cancel no further photo of
the batch is started; photos that were started are processed to their end.`,
		Example: `  photo-processor batches
  photo-processor batches 3d9e3a1c-52f5-4f0e-8a43-0f6f4c3f8a02 --watch
  photo-processor batches 3d9e3a1c-52f5-4f0e-8a43-0f6f4c3f8a02 --cancel`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return exitcode.Usagef("only one ID may be given")
			case len(args) == 0 && (watch || cancel):
				return exitcode.Usagef("--watch and --cancel require the ID of a batch")
			case len(args) == 1 && cmd.Flags().Changed("limit"):
				return exitcode.Usagef("--limit is for the list, and an ID excludes it")
			case limit < 1:
				return exitcode.Usagef("--limit must be at least 1")
			case len(args) == 1:
				_, err := parseUUIDArgument(args[0])
				return err
			}
			return nil
		},
	}
	cmd.Flags().IntVar(&limit, "limit", defaultBatches, "list at most `N` batches")
	cmd.Flags().BoolVar(&watch, "watch", false, "wait until every photo of the batch is completed or failed")
	cmd.Flags().BoolVar(&cancel, "cancel", false, "cancel the batch")
	output := addOutputFlag(cmd)
	setAPIRun(cmd, func(cmd *cobra.Command, args []string, api *client.Client, _ config.Config) error {
		out := cmd.OutOrStdout()
		if len(args) == 0 {
			batches, err := api.Batches(cmd.Context(), limit)
			if err != nil {
				return err
			}
			return printBatches(out, batches, *output)
		}
		id, err := parseUUIDArgument(args[0])
		if err != nil {
			return err
		}
		read := api.Batch
		if cancel {
			read = api.CancelBatch
		}
		batch, err := read(cmd.Context(), id)
		if client.IsNotFound(err) {
			return fmt.Errorf("there is no batch %s: %w", id, err)
		}
		if err == nil && watch {
			batch, err = watchBatch(cmd.Context(), api, batch, cmd.ErrOrStderr(), watchInterval)
		}
		if err != nil {
			return err
		}
		if err := printBatch(out, batch, *output); err != nil {
			return err
		}
		if watch && batch.Failed > 0 {
			return exitcode.ErrReported
		}
		return nil
	})
	return cmd
}

// watchBatch reads the batch once an interval until it is done, and returns it.
func watchBatch(ctx context.Context, api *client.Client, batch client.Batch, status io.Writer, interval time.Duration) (client.Batch, error) {
	w := newWatcher(status, interval)
	id, first := batch.ID, true
	err := w.run(ctx, func() (bool, error) {
		if !first {
			latest, err := api.Batch(ctx, id)
			if err != nil {
				return false, err
			}
			batch = latest
		}
		first = false
		w.progress.update(batch.Completed+batch.Failed, batch.Total, batch.Done)
		return batch.Done, nil
	})
	return batch, err
}

// batchState is a word for the state of a batch. A batch is canceling while
// photos that were started are not finished.
func batchState(b client.Batch) string {
	canceled := b.Canceled != nil && *b.Canceled
	switch {
	case canceled && b.Done:
		return "canceled"
	case canceled:
		return "canceling"
	case b.Done:
		return "done"
	}
	return "running"
}

func batchQuery(b client.Batch) string {
	if b.Query == nil {
		return ""
	}
	return toPrintable(*b.Query)
}

func printBatches(w io.Writer, batches []client.Batch, output outputFormat) error {
	if output == outputJSON {
		for _, b := range batches {
			if err := printJSON(w, b); err != nil {
				return err
			}
		}
		return nil
	}
	if len(batches) == 0 {
		fmt.Fprintln(w, "There are no batches.")
		return nil
	}
	table := newTable(w)
	fmt.Fprintln(table, "ID\tCREATED\tSTATE\tTOTAL\tPENDING\tPROCESSING\tCOMPLETED\tFAILED\tQUERY")
	for _, b := range batches {
		query := batchQuery(b)
		if query == "" {
			query = "-" // a batch of posted UUIDs
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\n", b.ID, formatTime(b.CreatedAt), batchState(b),
			b.Total, b.Pending, b.Processing, b.Completed, b.Failed, query)
	}
	return table.Flush()
}

func printBatch(w io.Writer, b client.Batch, output outputFormat) error {
	if output == outputJSON {
		return printJSON(w, b)
	}
	table := newTable(w)
	line := func(name string, value any) { fmt.Fprintf(table, "%s\t%v\n", name, value) }
	line("id", b.ID)
	line("created", formatTime(b.CreatedAt))
	line("state", batchState(b))
	if b.DoneAt != nil {
		line("done", formatTime(*b.DoneAt))
	}
	if b.Query != nil {
		line("query", batchQuery(b))
	}
	line("total", b.Total)
	line("pending", b.Pending)
	line("processing", b.Processing)
	line("completed", b.Completed)
	line("failed", b.Failed)
	for _, code := range sortedCodes(b) {
		line("  "+toPrintable(code), b.Failures[code])
	}
	return table.Flush()
}

// sortedCodes returns the failure codes of the batch, the most frequent first.
func sortedCodes(b client.Batch) []string {
	return slices.SortedFunc(maps.Keys(b.Failures), func(x, y string) int {
		return cmp.Or(cmp.Compare(b.Failures[y], b.Failures[x]), cmp.Compare(x, y))
	})
}
