package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// comparePairs is the default number of pairs of batches.
const comparePairs = 5

// comparison has the batches of this tree and of another revision. Its columns
// are in pairs: the other revision's, then this tree's. The runs of a pair with
// the same index were measured one right after the other.
type comparison struct {
	*report
	other, this string // names of the revisions
}

// compare builds the other revision, measures it and this tree in pairs of batches,
// and writes the comparison.
func compare(ctx context.Context, o options, out, progress io.Writer) (err error) {
	var c comparison
	if c.other, err = findRevision(ctx, ".", o.compare); err != nil {
		return fmt.Errorf("-compare: %w", err)
	}
	if c.this, err = nameTree(ctx, "."); err != nil {
		return err
	}
	fmt.Fprintf(progress, "building %s …\n", c.other)
	dir, err := checkOut(ctx, ".", c.other, os.TempDir())
	if err != nil {
		return fmt.Errorf("build %s: %w", c.other, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	o.otherProgram = filepath.Join(dir, "bin", "photo-processor")
	if c.report, err = measure(ctx, o, progress); err != nil {
		return err
	}
	c.write(out)
	return nil
}

// measurePairs measures the programs of both revisions. Both stacks run all the time,
// and the one without a batch is idle.
func (b *bench) measurePairs(ctx context.Context, boxes int) (err error) {
	var columns []*column
	for _, revision := range []struct{ name, program string }{{"other revision", b.otherProgram}, {"this tree", b.program}} {
		s, startErr := b.startStack(ctx, revision.program, b.stacks[0], boxes, revision.name)
		if startErr != nil {
			return fmt.Errorf("%s: %w", revision.name, startErr)
		}
		defer func() { err = errors.Join(err, s.stop()) }()
		columns = append(columns, &column{on: s, stack: b.stacks[0], boxes: boxes, photos: b.batches[0], revision: revision.name})
	}
	return b.alternate(ctx, columns)
}

// quantity is a row of a comparison.
type quantity struct {
	name string
	of   func(figures) float64
}

func quantities() []quantity {
	all := []quantity{{"photos/s", figures.rate}, {"CPU ms per photo", figures.totalCost}}
	for _, r := range roles {
		if r != devRole { // which is idle during a batch
			all = append(all, quantity{"– " + string(r), func(f figures) float64 { return f.cost(f.CPU[r]) }})
		}
	}
	inMilliseconds := func(of func(figures) []time.Duration, p float64) func(figures) float64 {
		return func(f figures) float64 { return milliseconds(percentile(of(f), p)) }
	}
	return append(all,
		quantity{"POST of one photo meanwhile, p50, ms", inMilliseconds(singlePosts, 50)},
		quantity{"POST of one photo meanwhile, p99, ms", inMilliseconds(singlePosts, 99)},
		quantity{"from that POST to completed, p50, ms", inMilliseconds(singles, 50)})
}

// write writes the comparison as Markdown.
func (c *comparison) write(w io.Writer) {
	for pair := range slices.Chunk(c.columns, 2) {
		other, this := pair[0], pair[1]
		table := [][]string{{
			fmt.Sprintf("%s, %s, %d photos", other.stack, boxesText(other.boxes), other.photos),
			"other: " + c.other, "this tree: " + c.this, "ratio", "smallest", "largest",
		}}
		for _, q := range quantities() {
			line := []string{q.name, other.format("%.2f", q.of), this.format("%.2f", q.of), nothing, nothing, nothing}
			var ratios []float64
			for i, run := range other.runs {
				if before := q.of(run); before != 0 {
					ratios = append(ratios, q.of(this.runs[i])/before)
				}
			}
			if len(ratios) == len(other.runs) {
				for i, ratio := range []float64{median(ratios), slices.Min(ratios), slices.Max(ratios)} {
					line[3+i] = fmt.Sprintf("%.3f", ratio)
				}
			}
			table = append(table, line)
		}
		writeTable(w, table)
		fmt.Fprintln(w)
	}
	c.writeFacts(w, c.facts())
}

// facts describes how the figures were measured.
func (c *comparison) facts() []string {
	facts := []string{
		fmt.Sprintf("Runs: %d pairs of batches, one on each stack, after %d photos to warm up; every second pair in reverse order; the other stack is idle meanwhile", len(c.columns[0].runs), warmup),
		"Ratio: the median of the pairs' ratios, each of which is this tree's value divided by the other revision's; CPU time is counted in steps of " + tick.String(),
		singlesFact,
	}
	for _, column := range c.columns {
		facts = append(facts, fmt.Sprintf("The machine's CPU time during the batches of %s: ", column.name())+
			column.format("the benchmark %.1f %%, other processes and the idle stack %.1f %%, the hypervisor %.1f %%", benchPercent, othersPercent, withheldPercent))
	}
	return facts
}
