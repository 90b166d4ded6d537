package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"

	"github.com/prometheus/procfs"
)

const (
	// limitTimes is how often the limit makes thumbnails of each file on each CPU:
	// enough to last some seconds. It has no backlog, so more would show nothing else.
	limitTimes = 3
	// warmup is how many photos a stack processes before it is measured: its pools
	// have their connections then, and its renderers have run.
	warmup = 20
)

// bench is a measurement.
type bench struct {
	options
	progress io.Writer
	server   *photoServer
	report   *report // so far
}

// newBench prepares a measurement. Its server must be closed.
func newBench(ctx context.Context, o options, progress io.Writer) (*bench, error) {
	proc, err := procfs.NewDefaultFS()
	if err != nil {
		return nil, fmt.Errorf("CPU time and memory are measured on Linux alone: %w", err)
	}
	b := &bench{options: o, progress: progress, report: &report{machine: readMachine(proc), settings: settings(), versions: map[string]string{}}}
	set, err := loadPhotos(ctx, o.cache, o.recipe, b.say)
	if err != nil {
		return nil, fmt.Errorf("photos: %w", err)
	}
	b.report.photos = set.facts()
	b.server, err = set.serve()
	return b, err
}

// say prints a line of progress.
func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.progress, format+"\n", args...) }

// measure measures the stacks and the limit.
func measure(ctx context.Context, o options, progress io.Writer) (*report, error) {
	b, err := newBench(ctx, o, progress)
	if err != nil {
		return nil, err
	}
	defer b.server.Close()
	for _, boxes := range o.boxes {
		limit := b.newLimit(boxes)
		b.report.columns = append(b.report.columns, limit)
		// As often before as after, since machines change.
		half := (o.repeats + 1) / 2
		if err := b.measureLimit(ctx, limit, half, byMake); err != nil {
			return nil, err
		}
		for _, name := range o.stacks {
			if err := b.measureStack(ctx, name, boxes); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
		if err := b.measureLimit(ctx, limit, half, byMake); err != nil {
			return nil, err
		}
		if o.crossCheck {
			govips := b.newLimit(boxes)
			if err := b.measureLimit(ctx, govips, 1, byGovips); err != nil {
				return nil, err
			}
			b.report.govips = append(b.report.govips, govips)
		}
	}
	return b.report, nil
}

func (b *bench) newLimit(boxes int) *column {
	return &column{stack: limitColumn, boxes: boxes, photos: limitTimes * len(b.recipe) * runtime.NumCPU()}
}

func (b *bench) measureLimit(ctx context.Context, c *column, repeats int, how string) error {
	for range repeats {
		b.say("the limit, %s, %d photos, %s …", how, c.photos, boxesText(c.boxes))
		figures, err := measureLimit(ctx, limitJob{Dir: b.server.set.dir, Boxes: c.boxes, Times: limitTimes, How: how})
		if err != nil {
			return fmt.Errorf("limit, %s: %w", how, err)
		}
		c.runs = append(c.runs, figures)
	}
	return nil
}

func (b *bench) measureStack(ctx context.Context, name string, boxes int) (err error) {
	s, err := b.startStack(ctx, b.program, name, boxes, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	for _, n := range b.batches {
		variants := []variant{{s, &column{stack: name, boxes: boxes, photos: n}}}
		if b.watchers > 0 {
			variants = append(variants, variant{s, &column{stack: name, boxes: boxes, photos: n, watchers: b.watchers}})
		}
		if err := b.alternate(ctx, variants); err != nil {
			return err
		}
	}
	return nil
}

// startStack starts a stack, which processes its first photos. The report lists the
// versions of its servers under the label.
func (b *bench) startStack(ctx context.Context, program, name string, boxes int, label string) (s *stack, err error) {
	b.say("starting the %s stack …", name)
	if s, err = startStack(ctx, program, name, boxSets[boxes]); err != nil {
		return nil, err
	}
	if _, err = s.batch(ctx, b.server, min(warmup, slices.Max(b.batches)), boxes); err != nil {
		err = fmt.Errorf("the first photos: %w", err)
	} else {
		b.report.versions[label], err = s.versions(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.stop())
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
// photos. It adds the columns to the report.
func (b *bench) alternate(ctx context.Context, variants []variant) error {
	for _, v := range variants {
		b.report.columns = append(b.report.columns, v.column)
	}
	for i := range b.repeats {
		first := b.server.next.Load()
		for _, v := range orderInRound(variants, i) {
			b.say("%s, %d photos …", v.name(), v.photos)
			b.server.next.Store(first)
			stopWatching, err := v.stack.watch(ctx, v.watchers)
			if err != nil {
				return err
			}
			figures, err := v.stack.batch(ctx, b.server, v.photos, v.boxes)
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
