package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/photo-processor/photo-processor/internal/client"
	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/exitcode"
	"github.com/photo-processor/photo-processor/internal/photo"
)

const (
	// batchSize is how many UUIDs one request posts: well below the API's limits,
	// and few enough to show progress.
	batchSize = 500
	// watchConcurrency is how many photos are polled concurrently, each at
	// watchInterval.
	watchConcurrency = 8
	watchInterval    = 500 * time.Millisecond
)

func newProcess() *cobra.Command {
	var apiURL string
	var allPending, watch bool
	cmd := &cobra.Command{
		Use:   "process [UUID…]",
		Short: "Process photos, and wait for them with --watch",
		Long: `Process the photos with the given UUIDs, all pending photos, or both.

With --watch the command waits for the final status of each photo, prints it, and
exits with 1 if a photo failed. An interrupt ends only the waiting; the photos are
processed all the same.`,
		Example: `  photo-processor process 8f9a6b1e-0d3c-4c7e-9a55-6f2c1f2b7a10
  photo-processor process --all-pending --watch`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := config.Load()
			if err != nil {
				return err
			}
			if apiURL == "" {
				apiURL = "http://" + cfg.HTTPAddr
			}
			token := ""
			if len(cfg.APITokens) > 0 {
				token = cfg.APITokens[0]
			}
			p := processing{
				api: client.New(apiURL, token), out: cmd.OutOrStdout(), status: cmd.ErrOrStderr(),
				before: map[uuid.UUID]time.Time{},
			}
			err = p.run(cmd.Context(), args, allPending, watch)
			if errors.Is(err, client.ErrUnreachable) {
				return &exitcode.Error{Code: exitcode.Unreachable, Err: err}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&apiURL, "api", os.Getenv("API_URL"), "`URL` of the API; defaults to API_URL, else to HTTP_ADDR")
	cmd.Flags().BoolVar(&allPending, "all-pending", false, "process all pending photos")
	cmd.Flags().BoolVar(&watch, "watch", false, "wait until every photo is completed or failed")
	return cmd
}

// processing is one run of the command.
type processing struct {
	api    *client.Client
	out    io.Writer // a line for each result
	status io.Writer // the progress bar, if it is a terminal

	mu     sync.Mutex
	before map[uuid.UUID]time.Time // updated_at of each photo before it was posted
	failed bool
}

func (p *processing) run(ctx context.Context, inputs []string, allPending, watch bool) error {
	if allPending {
		err := p.api.Photos(ctx, photo.Pending, func(photos []client.PhotoSummary) error {
			for _, ph := range photos {
				inputs = append(inputs, ph.UUID.String())
			}
			return nil
		})
		if err != nil {
			return err
		}
	} else if len(inputs) == 0 {
		return exitcode.Usagef("no UUIDs given; name some, or use --all-pending")
	}
	if len(inputs) == 0 {
		fmt.Fprintln(p.out, "No photos are pending.")
		return nil
	}
	if watch {
		if err := p.readUpdatedAt(ctx, inputs); err != nil {
			return err
		}
	}
	accepted, err := p.post(ctx, inputs)
	if err != nil {
		return err
	}
	if watch {
		err = p.watch(ctx, accepted)
	}
	if err == nil && p.failed {
		err = exitcode.ErrReported
	}
	return err
}

// readUpdatedAt reads updated_at of all photos, so that watch does not mistake
// the final status of an earlier run for the new one.
func (p *processing) readUpdatedAt(ctx context.Context, inputs []string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(watchConcurrency)
	for _, input := range inputs {
		id, err := photo.ParseUUID(input)
		if err != nil {
			continue // the API rejects it
		}
		group.Go(func() error {
			ph, err := p.api.Photo(ctx, id)
			if err != nil && !client.IsNotFound(err) {
				return err
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			p.before[id] = ph.UpdatedAt
			return nil
		})
	}
	return group.Wait()
}

// post posts the photos and returns the UUIDs that were accepted.
func (p *processing) post(ctx context.Context, inputs []string) (ids []uuid.UUID, err error) {
	seen := map[uuid.UUID]bool{}
	for len(inputs) > 0 {
		n := min(batchSize, len(inputs))
		accepted, rejected, err := p.api.Process(ctx, inputs[:n])
		if refused, ok := errors.AsType[*client.Error](err); ok && refused.Status == 400 {
			rejected, err = inputs[:n], nil // none of them is a UUID
		}
		if err != nil {
			return nil, err
		}
		inputs = inputs[n:]
		for _, input := range accepted {
			fmt.Fprintln(p.out, input, "accepted")
			if id, err := photo.ParseUUID(input); err == nil && !seen[id] {
				seen[id] = true
				ids = append(ids, id)
			}
		}
		for _, input := range rejected {
			p.failed = true
			fmt.Fprintf(p.out, "%s rejected: not a UUID\n", input)
		}
	}
	return ids, nil
}

// watch waits for the final status of each photo.
func (p *processing) watch(ctx context.Context, ids []uuid.UUID) error {
	bar := progressbar.NewOptions(len(ids),
		progressbar.OptionSetWriter(p.status),
		progressbar.OptionSetVisibility(isTerminal(p.status)),
		progressbar.OptionSetDescription("photos"),
		progressbar.OptionShowCount(),
		progressbar.OptionOnCompletion(func() { fmt.Fprintln(p.status) }),
	)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(watchConcurrency)
	for _, id := range ids {
		group.Go(func() error {
			result, ok, err := p.wait(ctx, id)
			if err != nil {
				return err
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			p.failed = p.failed || !ok
			_ = bar.Clear()
			fmt.Fprintln(p.out, id, result)
			return bar.Add(1)
		})
	}
	return group.Wait()
}

// wait polls one photo until it has its final status. ok is true if that is
// completed; result describes it.
func (p *processing) wait(ctx context.Context, id uuid.UUID) (result string, ok bool, err error) {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for {
		ph, err := p.api.Photo(ctx, id)
		switch {
		case client.IsNotFound(err):
			return "failed: there is no such photo", false, nil
		case err != nil && !isTransient(err):
			return "", false, err
		case err == nil && ph.Status.IsFinal() && !ph.UpdatedAt.Equal(p.updatedBefore(id)):
			if ph.Failure != nil {
				return fmt.Sprintf("failed: %s: %s", ph.Failure.Code, ph.Failure.Message), false, nil
			}
			return string(ph.Status), ph.Status == photo.Completed, nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return "", false, fmt.Errorf("%w; the photos are still processed", exitcode.ErrInterrupted)
		}
	}
}

func (p *processing) updatedBefore(id uuid.UUID) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.before[id]
}

// isTransient reports whether the error may go away: the API, or a server that it
// needs, is restarting.
func isTransient(err error) bool {
	refused, ok := errors.AsType[*client.Error](err)
	return !ok || refused.Status == 503
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
