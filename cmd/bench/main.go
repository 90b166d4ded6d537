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
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
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
	if len(os.Args) == 3 && os.Args[1] == limitCommand {
		err = runLimit(os.Args[2], os.Stdin, os.Stdout)
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
	program    string   // the built photo-processor; photo-processor-dev is next to it
	batches    []int    // photos in a POST; each number is measured
	stacks     []string // native, cluster
	boxes      []int    // keys of boxSets
	repeats    int
	watchers   int    // clients of GET /events in every second batch; 0 measures none
	crossCheck bool   // also measure plain govips
	compare    string // a revision to compare this tree with; "" compares with the limit

	otherProgram string // the built photo-processor of that revision

	recipe []recipe
	cache  string // directory of the photos
}

// boxSets are the sizes of the thumbnails, by their number.
var boxSets = map[int][]photo.Box{
	1: {{Width: 320, Height: 320}},
	3: {{Width: 1024, Height: 1024}, {Width: 320, Height: 320}, {Width: 64, Height: 64}},
}

func realMain(ctx context.Context, args []string, out, progress io.Writer) error {
	o, err := parseOptions(args)
	if err != nil {
		return err
	}
	if o.compare != "" {
		return compare(ctx, o, out, progress)
	}
	report, err := measure(ctx, o, progress)
	if err == nil {
		report.write(out)
	}
	return err
}

func parseOptions(args []string) (o options, err error) {
	o = options{program: filepath.Join("bin", "photo-processor"), recipe: defaultRecipe}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	n := flags.Int("n", smallBatch, fmt.Sprintf("photos in a POST, up to %d", maxBatch))
	stacks := flags.String("stack", "", "native (the default), cluster, or both")
	boxes := flags.String("boxes", "", "how many thumbnails of each photo: 1, 3, or both (the default; 1 for large batches and with -compare)")
	flags.IntVar(&o.repeats, "repeat", 0, "how often each is measured (3; large batches once; with -compare 5 pairs)")
	flags.StringVar(&o.compare, "compare", "", "compare this tree with another git `revision`, in pairs of batches")
	flags.IntVar(&o.watchers, "watchers", 0, "compare with batches that this many clients of GET /events watch")
	flags.BoolVar(&o.crossCheck, "govips", true, "measure plain govips beside the limit")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 || *n < 1 || *n > maxBatch || o.repeats < 0 || o.watchers < 0 {
		return o, fmt.Errorf("usage: bench [flags]; -n must be from 1 to %d", maxBatch)
	}

	o.batches = []int{*n}
	repeats, defaultBoxes := 3, "1 3"
	switch {
	case o.compare != "":
		repeats, defaultBoxes = comparePairs, "1"
	case *n >= largeBatch:
		o.batches = []int{smallBatch, *n}
		repeats, defaultBoxes = 1, "1"
	}
	o.repeats = cmp.Or(o.repeats, repeats)
	for _, text := range list(cmp.Or(*boxes, defaultBoxes)) {
		number, err := strconv.Atoi(text)
		if err != nil || boxSets[number] == nil {
			return o, fmt.Errorf("-boxes: %q is neither 1 nor 3", text)
		}
		o.boxes = append(o.boxes, number)
	}
	o.stacks = list(cmp.Or(*stacks, native))
	for _, name := range o.stacks {
		if name != native && name != cluster {
			return o, fmt.Errorf("-stack: %q is neither native nor cluster", name)
		}
	}
	if len(o.boxes) == 0 || len(o.stacks) == 0 {
		return o, errors.New("-boxes and -stack must not be blank")
	}
	if o.compare != "" && (o.watchers > 0 || len(o.stacks) > 1 || *n >= largeBatch) {
		return o, fmt.Errorf("usage: -compare takes one stack and fewer than %d photos, and no -watchers", largeBatch)
	}
	caches, err := os.UserCacheDir()
	o.cache = filepath.Join(caches, "photo-processor", "bench")
	return o, err
}

// list splits words that are separated by commas or spaces.
func list(text string) []string { return strings.Fields(strings.ReplaceAll(text, ",", " ")) }
