// Command bench measures photo-processor end to end, and compares it with the
// limit: processes that only make the same thumbnails.
//
//	make bench                          300 photos, 1 and 3 boxes, the native stack
//	make bench STACK="native cluster"   both stacks
//	make bench N=10000                  does the cost per photo grow with the backlog?
//	make bench COMPARE=HEAD             this tree and another revision, in pairs (compare.go)
//
// It draws photos (photos.go), starts the development stack (stack.go), posts all
// photos in one request and single photos meanwhile, and waits until all are
// completed (batch.go). It measures the limit (limit.go) in the same run, before and
// after. Everything is repeated; the table has medians.
//
// Variables of the environment, such as WORKER_ACTIVITIES, apply to the stack and
// are listed in the output.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// A batch of at least largeBatch photos is measured in slices, and compared with
// one of smallBatch.
const (
	smallBatch = 300
	largeBatch = 1000
	maxBatch   = 10_000 // the default of HTTP_MAX_PHOTOS
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if len(os.Args) > 1 && os.Args[1] == limitCommand {
		err = runLimit(os.Args[2:], os.Stdin, os.Stdout)
	} else {
		err = realMain(ctx, os.Args[1:], os.Stdout, os.Stderr)
	}
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options says what to measure.
type options struct {
	program    string   // the built photo-processor
	batches    []int    // photos in a POST; each number is measured
	stacks     []string // of stackFlags
	boxes      []int    // keys of boxSets
	repeats    int
	watchers   int    // clients of GET /events in every second batch; 0 measures none
	crossCheck bool   // also measure plain govips
	compare    string // a revision to compare this tree with; "" compares with the limit
	recipe     []recipe
	cache      string // directory of the photos
}

// boxSets are the sizes of the thumbnails, by their number.
var boxSets = map[int][]photo.Box{
	1: {{Width: 320, Height: 320}},
	3: {{Width: 1024, Height: 1024}, {Width: 320, Height: 320}, {Width: 64, Height: 64}},
}

func realMain(ctx context.Context, args []string, out, progress io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	program := flags.String("program", "bin/photo-processor", "the built `program`; its renderer and development stack are next to it")
	n := flags.Int("n", smallBatch, fmt.Sprintf("photos in a POST, up to %d", maxBatch))
	stacks := flags.String("stack", "native", "native, cluster, or both")
	boxes := flags.String("boxes", "", "how many thumbnails of each photo: 1, 3, or both (the default; 1 for large batches and with -compare)")
	repeats := flags.Int("repeat", 0, "how often each is measured (3; large batches once; with -compare 5 pairs)")
	revision := flags.String("compare", "", "compare this tree with another git `revision`, in pairs of batches")
	watchers := flags.Int("watchers", 0, "compare with batches that this many clients of GET /events watch")
	crossCheck := flags.Bool("govips", true, "measure plain govips beside the limit")
	if err := flags.Parse(args); err != nil {
		return err
	}
	o := options{batches: []int{*n}, repeats: 3, recipe: defaultRecipe, watchers: *watchers, crossCheck: *crossCheck, compare: *revision}
	defaultBoxes := "1 3"
	if *n >= largeBatch {
		o.batches, o.repeats, defaultBoxes = []int{smallBatch, *n}, 1, "1"
	}
	if o.compare != "" {
		o.repeats, defaultBoxes = comparePairs, "1"
	}
	if *repeats > 0 {
		o.repeats = *repeats
	}
	for _, text := range list(*boxes, defaultBoxes) {
		number, err := strconv.Atoi(text)
		if err != nil || boxSets[number] == nil {
			return fmt.Errorf("-boxes: %q is neither 1 nor 3", text)
		}
		o.boxes = append(o.boxes, number)
	}
	for _, name := range list(*stacks, "native") {
		if _, known := stackFlags[name]; !known {
			return fmt.Errorf("-stack: %q is neither native nor cluster", name)
		}
		o.stacks = append(o.stacks, name)
	}
	if flags.NArg() > 0 || *n < 1 || *n > maxBatch || *repeats < 0 || *watchers < 0 {
		return fmt.Errorf("usage: bench [flags]; -n must be from 1 to %d", maxBatch)
	}
	if o.compare != "" && (*watchers > 0 || len(o.stacks) > 1 || *n >= largeBatch) {
		return fmt.Errorf("usage: -compare takes one stack and fewer than %d photos, and no -watchers", largeBatch)
	}
	var err error
	if o.program, err = filepath.Abs(*program); err != nil {
		return err
	}
	caches, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	o.cache = filepath.Join(caches, "photo-processor", "bench")

	if o.compare != "" {
		comparison, err := compare(ctx, o, progress)
		if err != nil {
			return err
		}
		comparison.write(out)
		return nil
	}
	report, err := measure(ctx, o, progress)
	if err != nil {
		return err
	}
	report.write(out)
	return nil
}

// list reads words that are separated by commas or spaces.
func list(text, byDefault string) []string {
	words := func(text string) []string {
		return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
	}
	if found := words(text); len(found) > 0 {
		return found
	}
	return words(byDefault)
}

// limitTimes is how often the limit makes thumbnails of each file on each CPU:
// enough to last some seconds. It has no backlog, so more would show nothing else.
const limitTimes = 3

// measure does everything but show it.
func measure(ctx context.Context, o options, progress io.Writer) (*report, error) {
	say := sayTo(progress)
	report, server, err := newReport(ctx, o, say)
	if err != nil {
		return nil, err
	}
	defer server.Close()
	set := server.set

	for _, boxes := range o.boxes {
		limit := &column{stack: limitColumn, boxes: boxes, photos: limitTimes * len(o.recipe) * runtime.NumCPU()}
		report.columns = append(report.columns, limit)
		repeatLimit := func(repeats int) error {
			for range repeats {
				say("the limit, %d photos, %d boxes …", limit.photos, boxes)
				figures, err := measureLimit(ctx, set, boxes, limitTimes, byMake)
				if err != nil {
					return fmt.Errorf("limit: %w", err)
				}
				limit.runs = append(limit.runs, figures)
			}
			return nil
		}
		// As often before as after, since machines change.
		if err := repeatLimit((o.repeats + 1) / 2); err != nil {
			return nil, err
		}
		for _, name := range o.stacks {
			columns, err := measureStack(ctx, o, name, boxes, server, report, say)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			report.columns = append(report.columns, columns...)
		}
		if err := repeatLimit((o.repeats + 1) / 2); err != nil {
			return nil, err
		}
		if o.crossCheck {
			say("plain govips, %d photos, %d boxes …", limit.photos, boxes)
			figures, err := measureLimit(ctx, set, boxes, limitTimes, byGovips)
			if err != nil {
				return nil, fmt.Errorf("plain govips: %w", err)
			}
			report.govips = append(report.govips, govipsFigures{boxes, figures})
		}
	}
	return report, nil
}

// sayTo returns a function that prints a line of progress.
func sayTo(progress io.Writer) func(string, ...any) {
	return func(format string, args ...any) { fmt.Fprintf(progress, format+"\n", args...) }
}

// newReport returns a report without columns, and a server of the photos.
func newReport(ctx context.Context, o options, say func(string, ...any)) (*report, *photoServer, error) {
	report := &report{machine: machineFacts(), settings: settings()}
	set, err := loadPhotos(ctx, o.cache, o.recipe, say)
	if err != nil {
		return nil, nil, fmt.Errorf("photos: %w", err)
	}
	report.photos = set.facts()
	server, err := set.serve()
	return report, server, err
}

// warmup is how many photos a stack processes before it is measured: its pools
// have their connections then, and its renderers have run.
const warmup = 20

func measureStack(ctx context.Context, o options, name string, boxes int, server *photoServer, report *report, say func(string, ...any)) (columns []*column, err error) {
	s, err := startWarmStack(ctx, o, o.program, name, boxes, server, say)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := report.addVersions(ctx, name, s); err != nil {
		return nil, err
	}
	for _, n := range o.batches {
		variants := []variant{{s, &column{stack: name, boxes: boxes, photos: n}}}
		if o.watchers > 0 {
			variants = append(variants, variant{s, &column{stack: name, boxes: boxes, photos: n, watchers: o.watchers}})
		}
		if err := alternate(ctx, variants, o.repeats, server, say); err != nil {
			return nil, err
		}
		for _, v := range variants {
			columns = append(columns, v.column)
		}
	}
	return columns, nil
}

// startWarmStack starts a stack, which processes its first photos.
func startWarmStack(ctx context.Context, o options, program, name string, boxes int, server *photoServer, say func(string, ...any)) (*stack, error) {
	say("starting the %s stack …", name)
	s, err := startStack(ctx, program, name, boxSets[boxes])
	if err != nil {
		return nil, err
	}
	if _, err := s.batch(ctx, server, min(warmup, slices.Max(o.batches)), boxes); err != nil {
		return nil, errors.Join(fmt.Errorf("the first photos: %w", err), s.stop())
	}
	return s, nil
}

// variant is a column, and the stack that runs its batches.
type variant struct {
	stack *stack
	*column
}

// alternate measures rounds of batches, one batch of each variant per round,
// because the speed of machines changes. All batches of a round have the same
// photos.
func alternate(ctx context.Context, variants []variant, rounds int, server *photoServer, say func(string, ...any)) error {
	for i := range rounds {
		first := server.next.Load()
		for _, v := range orderInRound(variants, i) {
			say("%s, %d photos …", v.name(), v.photos)
			server.next.Store(first)
			stopWatching, err := v.stack.watch(ctx, v.watchers)
			if err != nil {
				return err
			}
			figures, err := v.stack.batch(ctx, server, v.photos, v.boxes)
			if err = errors.Join(err, stopWatching()); err != nil {
				return fmt.Errorf("%s: %w", v.name(), err)
			}
			v.runs = append(v.runs, figures)
		}
	}
	return nil
}

// orderInRound returns the variants in the order of round i. Every second round has the
// reverse order, so that no variant always runs first.
func orderInRound[T any](variants []T, i int) []T {
	order := slices.Clone(variants)
	if i%2 == 1 {
		slices.Reverse(order)
	}
	return order
}
