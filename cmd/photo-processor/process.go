package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/photo-processor/photo-processor/internal/client"
	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/exitcode"
	"github.com/photo-processor/photo-processor/internal/photo"
)

const (
	// batchSize is how many UUIDs one request posts, few enough to show progress.
	// A smaller HTTP_MAX_PHOTOS applies.
	batchSize = 500
	// stdinArgument stands for the UUIDs on stdin, of which there may be more than
	// a command line can hold.
	stdinArgument = "-"
)

// processOptions are the flags of process.
type processOptions struct {
	allPending, watch bool

	// A bulk operation: failed or completed is set.
	failed, completed bool
	code              string
	createdBefore     time.Time // zero: the API's default
	limit             int       // 0: no limit
}

func newProcess() *cobra.Command {
	var options processOptions
	cmd := &cobra.Command{
		Use:   "process [UUID…]",
		Short: "Process photos, and wait for them with --watch",
		Long: `Process the photos with the given UUIDs, all pending photos, or both. For a UUID that
is "-", the command reads UUIDs from stdin, separated by spaces or line breaks.

With --failed or --completed, start a bulk operation on all photos with this status,
oldest first, and print the ID of its batch: see the command batches. --code,
--created-before and --limit select fewer photos.

With --watch the command waits for the final status of each photo, prints it (of a bulk
operation, the failures by code and the totals), and exits with 1 if a photo failed. It
goes on while the API cannot be reached, and sends one request a second. An interrupt
ends only the waiting; the photos are processed all the same.`,
		Example: `  photo-processor process 8f9a6b1e-0d3c-4c7e-9a55-6f2c1f2b7a10
  photo-processor process --all-pending --watch
  photo-processor process --failed --code source_timeout --watch
  photo-processor process --completed --created-before 2026-11-26T09:00:00Z
  photo-processor audit --photos | photo-processor process --watch -`,
		Args: func(cmd *cobra.Command, args []string) error {
			return options.check(args, cmd.Flags().Changed)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&options.allPending, "all-pending", false, "process all pending photos")
	flags.BoolVar(&options.failed, "failed", false, "process all failed photos")
	flags.BoolVar(&options.completed, "completed", false, "process all completed photos again")
	flags.StringVar(&options.code, "code", "", "with --failed, only the photos with this failure `CODE`")
	flags.Func("created-before", "with --failed or --completed, only the photos that were added before this `TIME` (RFC 3339)",
		func(text string) (err error) {
			if options.createdBefore, err = time.Parse(time.RFC3339, text); err != nil {
				return errors.New("must be a time with its zone, such as 2026-11-26T09:00:00Z")
			}
			return nil
		})
	flags.IntVar(&options.limit, "limit", 0, "with --failed or --completed, process at most `N` photos")
	flags.BoolVar(&options.watch, "watch", false, "wait until every photo is completed or failed")
	output := addOutputFlag(cmd)
	setAPIRun(cmd, func(cmd *cobra.Command, args []string, api *client.Client, cfg config.Config) error {
		p := processing{
			api: api, output: *output, out: cmd.OutOrStdout(), status: cmd.ErrOrStderr(),
			before: map[uuid.UUID]time.Time{}, interval: watchInterval, batch: min(batchSize, cfg.HTTPMaxPhotos),
		}
		if options.isBulk() {
			return p.runBulk(cmd.Context(), options.selection(), options.watch)
		}
		if i := slices.Index(args, stdinArgument); i >= 0 {
			inputs, err := readInputs(cmd.Context(), cmd.InOrStdin())
			if err != nil {
				return err
			}
			args = slices.Replace(args, i, i+1, inputs...)
			if len(args) == 0 && !options.allPending {
				p.note("There are no UUIDs on stdin.")
				return nil
			}
		}
		return p.run(cmd.Context(), args, options.allPending, options.watch)
	})
	return cmd
}

func (o processOptions) isBulk() bool { return o.failed || o.completed }

// check returns an error if arguments and flags exclude each other. changed
// reports whether a flag is on the command line.
func (o processOptions) check(args []string, changed func(flag string) bool) error {
	switch {
	case o.failed && o.completed:
		return exitcode.Usagef("--failed and --completed exclude each other")
	case o.isBulk() && o.allPending:
		return exitcode.Usagef("--failed and --completed exclude --all-pending")
	case o.isBulk() && len(args) > 0:
		return exitcode.Usagef("--failed and --completed exclude UUIDs")
	case changed("code") && !o.failed:
		return exitcode.Usagef("--code requires --failed")
	case changed("created-before") && !o.isBulk():
		return exitcode.Usagef("--created-before requires --failed or --completed")
	case changed("limit") && !o.isBulk():
		return exitcode.Usagef("--limit requires --failed or --completed")
	case changed("code") && o.code == "":
		return exitcode.Usagef("--code must not be empty")
	case changed("limit") && o.limit < 1:
		return exitcode.Usagef("--limit must be at least 1")
	case len(args) == 0 && !o.allPending && !o.isBulk():
		return exitcode.Usagef("no UUIDs given; name some, or use -, --all-pending, --failed or --completed")
	}
	return nil
}

// selection returns the photos of the bulk operation.
func (o processOptions) selection() client.Selection {
	status := photo.Completed
	if o.failed {
		status = photo.Failed
	}
	return client.Selection{Status: status, Code: photo.Code(o.code), CreatedBefore: o.createdBefore, Limit: o.limit}
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
	output outputFormat
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
	}
	if len(inputs) == 0 {
		p.note("No photos are pending.")
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

// note prints a message that is no result.
func (p *processing) note(message string) {
	w := p.out
	if p.output == outputJSON {
		w = p.status
	}
	fmt.Fprintln(w, message)
}

// runBulk starts a bulk operation.
func (p *processing) runBulk(ctx context.Context, selection client.Selection, watch bool) error {
	batch, err := p.api.ProcessSelected(ctx, selection)
	if err != nil {
		return err
	}
	if p.output == outputJSON {
		err = printJSON(p.out, batch)
	} else {
		_, err = fmt.Fprintln(p.out, batch.ID)
	}
	if err != nil || !watch {
		return err
	}
	if batch, err = watchBatch(ctx, p.api, batch, p.status, p.interval); err != nil {
		return err
	}
	if p.output == outputJSON {
		err = printJSON(p.out, batch)
	} else {
		err = p.printTotals(batch)
	}
	if err == nil && batch.Failed > 0 {
		err = exitcode.ErrReported
	}
	return err
}

// printTotals prints a line for each failure code, then the totals.
func (p *processing) printTotals(b client.Batch) error {
	for _, code := range sortedCodes(b) {
		fmt.Fprintf(p.out, "failed: %s: %d\n", toPrintable(code), b.Failures[code])
	}
	canceled := ""
	if b.Canceled != nil && *b.Canceled {
		canceled = "; the batch was canceled"
	}
	_, err := fmt.Fprintf(p.out, "%d completed, %d failed%s\n", b.Completed, b.Failed, canceled)
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
		p.failed = p.failed || len(rejected) > 0
		if err := p.printPosted(accepted, rejected); err != nil {
			return nil, err
		}
		for _, input := range accepted {
			if id, err := photo.ParseUUID(input); err == nil && !seen[id] {
				seen[id] = true
				ids = append(ids, id)
			}
		}
	}
	return ids, nil
}

// printPosted prints the result of one request: in JSON, as the API returns it.
func (p *processing) printPosted(accepted, rejected []string) error {
	if p.output == outputJSON {
		return printJSON(p.out, map[string][]string{
			"accepted": append([]string{}, accepted...), "rejected": append([]string{}, rejected...),
		})
	}
	for _, input := range accepted {
		fmt.Fprintln(p.out, input, "accepted")
	}
	for _, input := range rejected {
		fmt.Fprintf(p.out, "%s rejected: not a UUID\n", input)
	}
	return nil
}

// watch waits for the final status of each photo.
func (p *processing) watch(ctx context.Context, ids []uuid.UUID) error {
	w, total := newWatcher(p.status, p.interval), len(ids)
	print := func(result photoResult) {
		w.progress.clear()
		p.printResult(result)
	}
	return w.run(ctx, func() (bool, error) {
		if total == 0 {
			return true, nil
		}
		n := min(client.MaxStatuses, len(ids))
		statuses, err := p.api.Statuses(ctx, ids[:n])
		if err != nil {
			return false, err
		}
		open := p.unfinished(ids[:n], statuses, print)
		ids = append(ids[n:], open...) // the others are next
		w.progress.update(total-len(ids), total, len(ids) == 0)
		return len(ids) == 0, nil
	})
}

// photoResult is the final status of a photo, in JSON a PhotoStatus of the API.
// A photo that does not exist has no UpdatedAt.
type photoResult struct {
	UUID      uuid.UUID      `json:"uuid"`
	Status    photo.Status   `json:"status"`
	UpdatedAt time.Time      `json:"updated_at,omitzero"`
	Failure   *photo.Failure `json:"failure,omitempty"`
}

func (p *processing) printResult(r photoResult) {
	switch {
	case p.output == outputJSON:
		_ = printJSON(p.out, r) // like a line of text: the exit code has the result, too
	case r.Failure == nil:
		fmt.Fprintln(p.out, r.UUID, r.Status)
	case r.Failure.Code == photo.NotFound:
		fmt.Fprintln(p.out, r.UUID, "failed:", r.Failure.Message)
	default:
		fmt.Fprintf(p.out, "%s failed: %s: %s\n", r.UUID, r.Failure.Code, r.Failure.Message)
	}
}

// unfinished prints the photos that have their final status, and returns the
// others.
func (p *processing) unfinished(ids []uuid.UUID, statuses []client.PhotoStatus, print func(photoResult)) (open []uuid.UUID) {
	found := make(map[uuid.UUID]client.PhotoStatus, len(statuses))
	for _, s := range statuses {
		found[s.UUID] = s
	}
	for _, id := range ids {
		s, exists := found[id]
		switch {
		case !exists:
			p.failed = true
			print(photoResult{UUID: id, Status: photo.Failed, Failure: photo.Fail(photo.NotFound, "there is no such photo")})
		case !s.Status.IsFinal() || s.UpdatedAt.Equal(p.before[id]):
			open = append(open, id)
		default:
			p.failed = p.failed || s.Status != photo.Completed
			print(photoResult{s.UUID, s.Status, s.UpdatedAt, s.Failure})
		}
	}
	return open
}
