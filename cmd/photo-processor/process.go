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
	"github.com/photo-processor/photo-processor/internal/photo"
)

const (
	// batch is how many UUIDs are posted at a time: well below the API's
	// limits, and few enough that progress shows.
	batch = 500
	// watchers is how many photos are asked for at a time, and watchEvery how
	// often each is.
	watchers   = 8
	watchEvery = 500 * time.Millisecond
)

func newProcess() *cobra.Command {
	var apiURL string
	var allPending, watch bool
	cmd := &cobra.Command{
		Use:   "process [UUID…]",
		Short: "Ask the API to process photos, and watch them if wanted",
		Long: `Ask the API to process the photos with the given UUIDs, all that are pending, or both.

With --watch it waits until each has its final status, says which, and exits
with 1 if a photo failed. Photos go on being processed if it is interrupted.`,
		Example: `  photo-processor process 8f9a6b1e-0d3c-4c7e-9a55-6f2c1f2b7a10
  photo-processor process --all-pending --watch`,
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
			return p.run(cmd.Context(), args, allPending, watch)
		},
	}
	cmd.Flags().StringVar(&apiURL, "api", os.Getenv("API_URL"), "the API's `URL`; by default API_URL, or else that of HTTP_ADDR")
	cmd.Flags().BoolVar(&allPending, "all-pending", false, "process all photos whose status is pending")
	cmd.Flags().BoolVar(&watch, "watch", false, "wait until every photo is completed or failed")
	return cmd
}

// processing is one run of the command.
type processing struct {
	api    *client.Client
	out    io.Writer // a line for each result
	status io.Writer // the progress bar, on a terminal

	mu     sync.Mutex
	before map[uuid.UUID]time.Time // when each photo had last changed before it was posted
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
		return errors.New("name the photos' UUIDs, or say --all-pending")
	}
	if len(inputs) == 0 {
		fmt.Fprintln(p.out, "No photos are pending.")
		return nil
	}
	if watch {
		if err := p.remember(ctx, inputs); err != nil {
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
		err = errSilent
	}
	return err
}

// remember notes when each photo has last changed, so that a status of an
// earlier run is not taken for the new one's.
func (p *processing) remember(ctx context.Context, inputs []string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(watchers)
	for _, input := range inputs {
		id, err := uuid.Parse(input)
		if err != nil {
			continue // the API says so
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

// post starts the photos' workflows, and gives the UUIDs that were accepted.
func (p *processing) post(ctx context.Context, inputs []string) (ids []uuid.UUID, err error) {
	seen := map[uuid.UUID]bool{}
	for len(inputs) > 0 {
		n := min(batch, len(inputs))
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
			if id, err := uuid.Parse(input); err == nil && !seen[id] {
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
	group.SetLimit(watchers)
	for _, id := range ids {
		group.Go(func() error {
			result, ok, err := p.await(ctx, id)
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

// await asks for one photo until it has its final status, and says which.
func (p *processing) await(ctx context.Context, id uuid.UUID) (result string, ok bool, err error) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		ph, err := p.api.Photo(ctx, id)
		switch {
		case client.IsNotFound(err):
			return "failed: there is no such photo", false, nil
		case err != nil && !passing(err):
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
			return "", false, errors.New("no longer watching; the photos go on being processed")
		}
	}
}

func (p *processing) updatedBefore(id uuid.UUID) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.before[id]
}

// passing tells whether an error is one that watching outlasts: the API, or
// what is behind it, restarts.
func passing(err error) bool {
	refused, ok := errors.AsType[*client.Error](err)
	return !ok || refused.Status == 503
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
