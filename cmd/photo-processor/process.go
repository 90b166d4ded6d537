package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/photo-processor/photo-processor/internal/client"
	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/exitcode"
	"github.com/photo-processor/photo-processor/internal/photo"
)

const (
	// batchSize is how many UUIDs one request posts, few enough to show progress.
	// A smaller HTTP_MAX_PHOTOS applies.
	batchSize = 500
	// watchInterval is the time between two requests of --watch. One request
	// reads the statuses of up to client.MaxStatuses photos.
	watchInterval = time.Second
	// stdinArgument stands for the UUIDs on stdin, of which there may be more than
	// a command line can hold.
	stdinArgument = "-"
)

func newProcess() *cobra.Command {
	var apiURL string
	var allPending, watch bool
	cmd := &cobra.Command{
		Use:   "process [UUID…]",
		Short: "Process photos, and wait for them with --watch",
		Long: `Process the photos with the given UUIDs, all pending photos, or both. For a UUID that
is "-", the command reads UUIDs from stdin, separated by spaces or line breaks.

With --watch the command waits for the final status of each photo, prints it, and
exits with 1 if a photo failed. It goes on while the API cannot be reached, and sends
one request a second. An interrupt ends only the waiting; the photos are processed all
the same.`,
		Example: `  photo-processor process 8f9a6b1e-0d3c-4c7e-9a55-6f2c1f2b7a10
  photo-processor process --all-pending --watch
  photo-processor audit --photos | photo-processor process --watch -`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := config.Load()
			if err != nil {
				return err
			}
			if i := slices.Index(args, stdinArgument); i >= 0 {
				inputs, err := readInputs(cmd.Context(), cmd.InOrStdin())
				if err != nil {
					return err
				}
				args = slices.Replace(args, i, i+1, inputs...)
				if len(args) == 0 && !allPending {
					fmt.Fprintln(cmd.OutOrStdout(), "There are no UUIDs on stdin.")
					return nil
				}
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
				before: map[uuid.UUID]time.Time{}, interval: watchInterval, batch: min(batchSize, cfg.HTTPMaxPhotos),
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

// readInputs reads words that are separated by white space. They need not be
// UUIDs; the API rejects those that are not. A goroutine reads, so that an
// interrupt does not wait for the writer of stdin.
func readInputs(ctx context.Context, r io.Reader) ([]string, error) {
	type result struct {
		inputs []string
		err    error
	}
	read := make(chan result, 1)
	go func() {
		all, err := io.ReadAll(r)
		read <- result{strings.Fields(string(all)), err}
	}()
	select {
	case got := <-read:
		if got.err != nil {
			return nil, fmt.Errorf("reading UUIDs from stdin: %w", got.err)
		}
		return got.inputs, nil
	case <-ctx.Done():
		return nil, exitcode.ErrInterrupted
	}
}

// processing is one run of the command.
type processing struct {
	api    *client.Client
	out    io.Writer // a line for each result
	status io.Writer // the progress bar, if it is a terminal, and outages of the API

	batch    int                     // most UUIDs of one request
	interval time.Duration           // between two requests of watch
	before   map[uuid.UUID]time.Time // updated_at of each photo before it was posted
	failed   bool
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
		return exitcode.Usagef("no UUIDs given; name some, or use - or --all-pending")
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
	var ids []uuid.UUID
	for _, input := range inputs {
		if id, err := photo.ParseUUID(input); err == nil { // else the API rejects it
			ids = append(ids, id)
		}
	}
	for batch := range slices.Chunk(ids, client.MaxStatuses) {
		statuses, err := p.api.Statuses(ctx, batch)
		if err != nil {
			return err
		}
		for _, s := range statuses {
			p.before[s.UUID] = s.UpdatedAt
		}
	}
	return nil
}

// post posts the photos and returns the UUIDs that were accepted.
func (p *processing) post(ctx context.Context, inputs []string) (ids []uuid.UUID, err error) {
	seen := map[uuid.UUID]bool{}
	for len(inputs) > 0 {
		n := min(p.batch, len(inputs))
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
	print := func(line ...any) {
		_ = bar.Clear()
		fmt.Fprintln(p.out, line...)
	}
	ticker := time.NewTicker(p.interval)
	defer ticker.Stop()
	away := false
	for len(ids) > 0 {
		n := min(client.MaxStatuses, len(ids))
		statuses, err := p.api.Statuses(ctx, ids[:n])
		switch {
		case ctx.Err() != nil:
		case err != nil && !isTransient(err):
			return err
		case err != nil && !away:
			away = true
			_ = bar.Clear()
			fmt.Fprintf(p.status, "%s; waiting until it can be used again\n", err)
		case err == nil && away:
			away = false
			_ = bar.Clear()
			fmt.Fprintln(p.status, "the API can be used again")
		}
		if err == nil {
			open := p.unfinished(ids[:n], statuses, print)
			if err := bar.Add(n - len(open)); err != nil {
				return err
			}
			ids = append(ids[n:], open...) // the others are next
		}
		if len(ids) == 0 {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("%w; the photos are still processed", exitcode.ErrInterrupted)
		}
	}
	return nil
}

// unfinished prints the photos that have their final status, and returns the
// others.
func (p *processing) unfinished(ids []uuid.UUID, statuses []client.PhotoStatus, print func(...any)) (open []uuid.UUID) {
	found := make(map[uuid.UUID]client.PhotoStatus, len(statuses))
	for _, s := range statuses {
		found[s.UUID] = s
	}
	for _, id := range ids {
		s, exists := found[id]
		switch {
		case !exists:
			p.failed = true
			print(id, "failed: there is no such photo")
		case !s.Status.IsFinal() || s.UpdatedAt.Equal(p.before[id]):
			open = append(open, id)
		case s.Failure != nil:
			p.failed = true
			print(id, fmt.Sprintf("failed: %s: %s", s.Failure.Code, s.Failure.Message))
		default:
			p.failed = p.failed || s.Status != photo.Completed
			print(id, s.Status)
		}
	}
	return open
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
