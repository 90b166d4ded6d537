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
)

// comparePairs is the default number of pairs of batches.
const comparePairs = 5

// comparison has the batches of this tree and of another revision. Its columns
// are in pairs: the other revision's, then this tree's. The runs of a pair with
// the same index were measured one right after the other.
type comparison struct {
	report
	other, this string // names of the revisions
}

// compare builds the other revision, and measures it and this tree in pairs of
// batches.
func compare(ctx context.Context, o options, progress io.Writer) (_ *comparison, err error) {
	say := sayTo(progress)
	commit, err := findRevision(ctx, ".", o.compare)
	if err != nil {
		return nil, fmt.Errorf("-compare: %w", err)
	}
	c := &comparison{}
	if c.other, c.this, err = revisionNames(ctx, ".", commit); err != nil {
		return nil, err
	}
	say("building %s …", c.other)
	tree, err := checkOut(ctx, ".", commit, os.TempDir())
	if err != nil {
		return nil, fmt.Errorf("build %s: %w", c.other, err)
	}
	defer func() { err = errors.Join(err, tree.remove()) }()
	return c, c.measure(ctx, o, tree.program, say)
}

// measure measures the programs of both revisions. Both stacks run all the time,
// and the one without a batch is idle.
func (c *comparison) measure(ctx context.Context, o options, otherProgram string, say func(string, ...any)) error {
	report, server, err := newReport(ctx, o, say)
	if err != nil {
		return err
	}
	defer server.Close()
	c.report = *report
	for _, boxes := range o.boxes {
		if err := c.measureBoxes(ctx, o, otherProgram, boxes, server, say); err != nil {
			return err
		}
	}
	return nil
}

func (c *comparison) measureBoxes(ctx context.Context, o options, otherProgram string, boxes int, server *photoServer, say func(string, ...any)) (err error) {
	var variants []variant
	for _, revision := range []struct{ name, program string }{{"other revision", otherProgram}, {"this tree", o.program}} {
		s, err := startWarmStack(ctx, o, revision.program, o.stacks[0], boxes, server, say)
		if err != nil {
			return fmt.Errorf("%s: %w", revision.name, err)
		}
		defer func() { err = errors.Join(err, s.stop()) }()
		if err := c.addVersions(ctx, revision.name, s); err != nil {
			return err
		}
		variants = append(variants, variant{s, &column{stack: o.stacks[0], boxes: boxes, photos: o.batches[0], revision: revision.name}})
	}
	if err := alternate(ctx, variants, o.repeats, server, say); err != nil {
		return err
	}
	for _, v := range variants {
		c.columns = append(c.columns, v.column)
	}
	return nil
}

// quantity is a row of a comparison.
type quantity struct {
	name string
	of   func(figures) float64
}

func quantities() []quantity {
	all := []quantity{
		{"photos/s", figures.rate},
		{"CPU ms per photo", func(f figures) float64 { return f.cost(sum(f.CPU)) }},
	}
	for _, r := range roles {
		if r != devRole { // which is idle during a batch
			all = append(all, quantity{"– " + processesOf[r], func(f figures) float64 { return f.cost(f.CPU[r]) }})
		}
	}
	inMilliseconds := func(of func(figures) []time.Duration, p float64) func(figures) float64 {
		return func(f figures) float64 { return percentile(of(f), p).Seconds() * 1000 }
	}
	posts, singles := func(f figures) []time.Duration { return f.SinglePosts }, func(f figures) []time.Duration { return f.Singles }
	return append(all,
		quantity{"POST of one photo meanwhile, p50, ms", inMilliseconds(posts, 50)},
		quantity{"POST of one photo meanwhile, p99, ms", inMilliseconds(posts, 99)},
		quantity{"from that POST to completed, p50, ms", inMilliseconds(singles, 50)})
}

// ratios returns this tree's value divided by the other revision's, of each pair;
// nothing if a value of the other revision is 0.
func ratios(other, this *column, of func(figures) float64) []float64 {
	var found []float64
	for i, run := range other.runs {
		before := of(run)
		if before == 0 {
			return nil
		}
		found = append(found, of(this.runs[i])/before)
	}
	return found
}

// write writes the comparison as Markdown.
func (c *comparison) write(w io.Writer) {
	for pair := range slices.Chunk(c.columns, 2) {
		other, this := pair[0], pair[1]
		title := column{stack: other.stack, boxes: other.boxes}
		header := []string{fmt.Sprintf("%s, %d photos", title.name(), other.photos), "other: " + c.other, "this tree: " + c.this, "ratio", "smallest", "largest"}
		var lines [][]string
		for _, q := range quantities() {
			line := []string{q.name, fmt.Sprintf("%.2f", other.mid(q.of)), fmt.Sprintf("%.2f", this.mid(q.of))}
			if found := ratios(other, this, q.of); len(found) > 0 {
				for _, ratio := range []float64{median(found), slices.Min(found), slices.Max(found)} {
					line = append(line, fmt.Sprintf("%.3f", ratio))
				}
			} else {
				line = append(line, nothing, nothing, nothing)
			}
			lines = append(lines, line)
		}
		writeTable(w, header, lines)
		fmt.Fprintln(w)
	}
	for _, line := range c.facts() {
		fmt.Fprintln(w, "*", line)
	}
}

// facts describes the conditions of the comparison.
func (c *comparison) facts() []string {
	facts := append(c.conditions(),
		fmt.Sprintf("Runs: %d pairs of batches, one on each stack, after %d photos to warm up; every second pair in reverse order; the other stack is idle meanwhile", len(c.columns[0].runs), warmup),
		"Ratio: the median of the pairs' ratios, each of which is this tree's value divided by the other revision's; CPU time is counted in steps of "+tick.String(),
		singlesFact(),
	)
	for _, column := range c.columns {
		facts = append(facts, fmt.Sprintf("The machine's CPU time during the batches of %s: the benchmark %.1f %%, other processes and the idle stack %.1f %%, the hypervisor %.1f %%", column.name(),
			column.percent(func(f figures) float64 { return f.Bench }), column.percent(func(f figures) float64 { return f.Others }),
			column.percent(func(f figures) float64 { return f.Withheld })))
	}
	return append(facts, c.reservations()...)
}

// revisionNames returns the abbreviated hashes of the other commit and of this
// tree's.
func revisionNames(ctx context.Context, dir, commit string) (other, this string, err error) {
	if other, err = git(ctx, dir, "rev-parse", "--short", commit); err != nil {
		return "", "", err
	}
	if this, err = git(ctx, dir, "rev-parse", "--short", "HEAD"); err != nil {
		return "", "", err
	}
	changes, err := git(ctx, dir, "status", "--porcelain")
	if strings.TrimSpace(changes) != "" {
		this += " + changes"
	}
	return other, this, err
}
