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
	proc     procfs.FS
	server   *photoServer
	report   *report // so far
}

// newBench prepares a measurement. Its server must be closed.
func newBench(ctx context.Context, o options, progress io.Writer) (*bench, error) {
	proc, err := procfs.NewDefaultFS()
	if err != nil {
		return nil, fmt.Errorf("CPU time and memory are measured on Linux alone: %w", err)
	}
	b := &bench{options: o, progress: progress, proc: proc, report: &report{settings: settings(), versions: map[string]string{}}}
	b.report.machine, b.report.load = describeMachine(proc)
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

// measure measures the stacks and the limit, or the programs of two revisions.
func measure(ctx context.Context, o options, progress io.Writer) (*report, error) {
	b, err := newBench(ctx, o, progress)
	if err != nil {
		return nil, err
	}
	defer b.server.Close()
	measureBoxes := b.measureWithLimit
	if o.otherProgram != "" {
		measureBoxes = b.measurePairs
	}
	for _, boxes := range o.boxes {
		if err := measureBoxes(ctx, boxes); err != nil {
			return nil, err
		}
	}
	return b.report, nil
}

// measureWithLimit measures the limit as often before the stacks as after, since
// machines change.
func (b *bench) measureWithLimit(ctx context.Context, boxes int) error {
	limit := b.newLimit(limitColumn, boxes)
	b.report.columns = append(b.report.columns, limit)
	half := (b.repeats + 1) / 2
	if err := b.measureLimit(ctx, limit, half, false); err != nil {
		return err
	}
	for _, name := range b.stacks {
		if err := b.measureStack(ctx, name, boxes); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := b.measureLimit(ctx, limit, half, false); err != nil || !b.crossCheck {
		return err
	}
	govips := b.newLimit("plain govips", boxes)
	b.report.govips = append(b.report.govips, govips)
	return b.measureLimit(ctx, govips, 1, true)
}

func (b *bench) newLimit(name string, boxes int) *column {
	return &column{stack: name, boxes: boxes, photos: limitTimes * len(b.recipe) * runtime.NumCPU()}
}

func (b *bench) measureLimit(ctx context.Context, c *column, repeats int, govips bool) error {
	for range repeats {
		b.say("%s, %d photos …", c.name(), c.photos)
		figures, err := measureLimit(ctx, b.proc, limitJob{Paths: b.server.set.paths, Boxes: c.boxes, Times: limitTimes, Govips: govips})
		if err != nil {
			return fmt.Errorf("%s: %w", c.name(), err)
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
		columns := []*column{{on: s, stack: name, boxes: boxes, photos: n}}
		if b.watchers > 0 {
			columns = append(columns, &column{on: s, stack: name, boxes: boxes, photos: n, watchers: b.watchers})
		}
		if err := b.alternate(ctx, columns); err != nil {
			return err
		}
	}
	return nil
}

// startStack starts a stack, which processes its first photos. The report lists the
// versions of its servers under the label.
func (b *bench) startStack(ctx context.Context, program, name string, boxes int, label string) (s *stack, err error) {
	b.say("starting the %s stack …", name)
	if s, err = startStack(ctx, b.proc, program, name, boxSets[boxes]); err != nil {
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

// alternate measures rounds of batches, one batch of each column per round, because
// the speed of machines changes. All batches of a round have the same photos. It
// adds the columns to the report.
func (b *bench) alternate(ctx context.Context, columns []*column) error {
	b.report.columns = append(b.report.columns, columns...)
	for i := range b.repeats {
		first := b.server.next.Load()
		for _, c := range orderInRound(columns, i) {
			b.say("%s, %d photos …", c.name(), c.photos)
			b.server.next.Store(first)
			stopWatching, err := c.on.watch(ctx, c.watchers)
			if err != nil {
				return err
			}
			figures, err := c.on.batch(ctx, b.server, c.photos, c.boxes)
			if err = errors.Join(err, stopWatching()); err != nil {
				return fmt.Errorf("%s: %w", c.name(), err)
			}
			c.runs = append(c.runs, figures)
		}
	}
	return nil
}

// orderInRound returns the columns in the order of round i. Every second round has
// the reverse order, so that no column is always the first.
func orderInRound[T any](columns []T, i int) []T {
	order := slices.Clone(columns)
	if i%2 == 1 {
		slices.Reverse(order)
	}
	return order
}
