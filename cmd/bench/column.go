package main

import (
	"fmt"
	"time"
)

// limitColumn is the stack name of the limit's columns.
const limitColumn = "limit"

// column has the runs of one measurement.
type column struct {
	on     *stack // nil for the limit
	stack  string // native, cluster or limitColumn
	boxes  int
	photos int
	runs   []figures

	watchers int    // clients of GET /events
	revision string // of a comparison
}

func (c *column) isLimit() bool { return c.stack == limitColumn }

func (c *column) name() string {
	name := c.stack + ", " + boxesText(c.boxes)
	if c.watchers > 0 {
		name += fmt.Sprintf(", %d watchers", c.watchers)
	}
	if c.revision != "" {
		name += ", " + c.revision
	}
	return name
}

func boxesText(boxes int) string {
	if boxes == 1 {
		return "1 box"
	}
	return fmt.Sprintf("%d boxes", boxes)
}

// mid returns the median of the runs.
func (c *column) mid(of func(figures) float64) float64 {
	var values []float64
	for _, run := range c.runs {
		values = append(values, of(run))
	}
	return median(values)
}

func (c *column) rate() float64 { return c.mid(figures.rate) }

func (c *column) totalCost() float64 { return c.mid(figures.totalCost) }

// format formats medians.
func (c *column) format(format string, ofs ...func(figures) float64) string {
	var medians []any
	for _, of := range ofs {
		medians = append(medians, c.mid(of))
	}
	return fmt.Sprintf(format, medians...)
}

// pooled returns the values of all runs.
func (c *column) pooled(of func(figures) []time.Duration) (values []time.Duration) {
	for _, run := range c.runs {
		values = append(values, of(run)...)
	}
	return values
}

// memory formats the peak of the largest process in MiB, or for different processes
// the peak of their sum.
func (c *column) memory(r role) string {
	peaks := map[role]memory{}
	for _, run := range c.runs {
		raisePeaks(peaks, run.Memory)
	}
	m := peaks[r]
	switch {
	case m.Processes == 0:
		return nothing
	case r == postgresRole, r == temporalRole && m.Processes > 1:
		return fmt.Sprintf("%d in %d processes", m.Sum>>20, m.Processes)
	case m.Processes > 1:
		return fmt.Sprintf("%d × %d", m.Processes, m.Largest>>20)
	default:
		return fmt.Sprint(m.Largest >> 20)
	}
}
