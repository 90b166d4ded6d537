package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/photo-processor/photo-processor/internal/renderer"
)

// report has all results.
type report struct {
	machine  machine
	photos   string
	settings []string
	versions map[string]string // of the stacks
	columns  []*column
	govips   []govipsFigures
}

type govipsFigures struct {
	boxes int
	figures
}

// limitColumn is the stack name of the limit's columns.
const limitColumn = "limit"

// column has the runs of one measurement.
type column struct {
	stack  string
	boxes  int
	photos int
	runs   []figures

	watchers int    // clients of GET /events
	revision string // of a comparison
}

// mid returns the median of the runs.
func (c *column) mid(of func(figures) float64) float64 {
	var values []float64
	for _, run := range c.runs {
		values = append(values, of(run))
	}
	return median(values)
}

func (f figures) rate() float64 { return float64(f.Photos) / f.Wall.Seconds() }

// cost is CPU time in milliseconds per photo.
func (f figures) cost(cpu time.Duration) float64 {
	return float64(cpu) / float64(time.Millisecond) / float64(f.Photos)
}

func (c *column) rate() float64 { return c.mid(figures.rate) }

func (c *column) cost(r role) float64 {
	return c.mid(func(f figures) float64 { return f.cost(f.CPU[r]) })
}

func (c *column) totalCost() float64 {
	return c.mid(func(f figures) float64 { return f.cost(sum(f.CPU)) })
}

func (c *column) percent(of func(figures) float64) float64 { return 100 * c.mid(of) }

// pooled returns the values of all runs.
func (c *column) pooled(of func(figures) []time.Duration) (values []time.Duration) {
	for _, run := range c.runs {
		values = append(values, of(run)...)
	}
	return values
}

func (c *column) isLimit() bool { return c.stack == limitColumn }

func (c *column) name() string {
	name := c.stack + ", 1 box"
	if c.boxes > 1 {
		name = fmt.Sprintf("%s, %d boxes", c.stack, c.boxes)
	}
	if c.watchers > 0 {
		name += fmt.Sprintf(", %d watchers", c.watchers)
	}
	if c.revision != "" {
		name += ", " + c.revision
	}
	return name
}

// limitOf returns the limit to compare the column with.
func (r *report) limitOf(c *column) *column {
	i := slices.IndexFunc(r.columns, func(other *column) bool { return other.isLimit() && other.boxes == c.boxes })
	return r.columns[i]
}

// nothing is the text of empty cells.
const nothing = "–"

// row is one row of the table.
type row struct {
	name string
	cell func(*column) string
}

func (r *report) rows() []row {
	ofStack := func(cell func(*column) string) func(*column) string {
		return func(c *column) string {
			if c.isLimit() {
				return nothing
			}
			return cell(c)
		}
	}
	milliseconds := func(value float64) string { return fmt.Sprintf("%.1f", value) }
	seconds := func(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()) }
	percentiles := func(of func(figures) []time.Duration, format func(time.Duration) string, ps ...float64) func(*column) string {
		return ofStack(func(c *column) string {
			values := c.pooled(of)
			if len(values) == 0 {
				return nothing
			}
			var texts []string
			for _, p := range ps {
				texts = append(texts, format(percentile(values, p)))
			}
			return strings.Join(texts, " / ")
		})
	}
	rows := []row{
		{"photos", func(c *column) string { return fmt.Sprint(c.photos) }},
		{"**photos/s**", func(c *column) string { return fmt.Sprintf("**%.1f**", c.rate()) }},
		{"of the limit", func(c *column) string { return fmt.Sprintf("%.0f %%", 100*c.rate()/r.limitOf(c).rate()) }},
		{"**CPU ms per photo**", func(c *column) string { return fmt.Sprintf("**%.1f**", c.totalCost()) }},
	}
	for _, name := range roles {
		rows = append(rows, row{"– " + processesOf[name], ofStack(func(c *column) string { return milliseconds(c.cost(name)) })})
	}
	rows = append(rows,
		row{"from POST to completed, p50 / p95, s", percentiles(func(f figures) []time.Duration { return f.Completed }, seconds, 50, 95)},
		row{"POST of all photos, s", ofStack(func(c *column) string {
			return fmt.Sprintf("%.2f", c.mid(func(f figures) float64 { return f.Post.Seconds() }))
		})},
		row{"POST of one photo meanwhile, p50 / p99, ms", percentiles(func(f figures) []time.Duration { return f.SinglePosts },
			func(d time.Duration) string { return milliseconds(d.Seconds() * 1000) }, 50, 99)},
		row{"from that POST to completed, p50 / p95, s", percentiles(func(f figures) []time.Duration { return f.Singles }, seconds, 50, 95)},
	)
	rows = append(rows, row{"peak memory, MiB: the limit's processes, without the photos' files", func(c *column) string {
		if !c.isLimit() {
			return nothing
		}
		return c.memory(limitRole)
	}})
	for _, name := range roles {
		rows = append(rows, row{"– " + processesOf[name], ofStack(func(c *column) string { return c.memory(name) })})
	}
	return append(rows,
		row{"of all CPUs: the benchmark, which serves the photos", ofStack(func(c *column) string {
			return fmt.Sprintf("%.1f %%", c.percent(func(f figures) float64 { return f.Bench }))
		})},
		row{"of all CPUs: other processes / the hypervisor", func(c *column) string {
			return fmt.Sprintf("%.1f %% / %.1f %%", c.percent(func(f figures) float64 { return f.Others }),
				c.percent(func(f figures) float64 { return f.Withheld }))
		}},
	)
}

// processesOf describes the processes of a role in the table.
var processesOf = map[role]string{
	renderRole: "render processes", workerRole: "worker", apiRole: "API", temporalRole: "Temporal", postgresRole: "PostgreSQL", devRole: "`photo-processor-dev`",
}

// memory formats the peak of the largest process, or for different processes the
// peak of their sum.
func (c *column) memory(r role) string {
	peak := map[role]memory{}
	for _, run := range c.runs {
		keepPeaks(peak, run.Memory)
	}
	m := peak[r]
	switch {
	case r == postgresRole, r == temporalRole && m.Processes > 1:
		return fmt.Sprintf("%d in %d processes", m.Sum>>20, m.Processes)
	case m.Processes > 1:
		return fmt.Sprintf("%d × %d", m.Processes, m.Largest>>20)
	default:
		return fmt.Sprint(m.Largest >> 20)
	}
}

// write writes the report as Markdown.
func (r *report) write(w io.Writer) {
	header := []string{""}
	for _, c := range r.columns {
		header = append(header, c.name())
	}
	var lines [][]string
	for _, row := range r.rows() {
		line := []string{row.name}
		for _, c := range r.columns {
			line = append(line, row.cell(c))
		}
		lines = append(lines, line)
	}
	writeTable(w, header, lines)
	for _, c := range r.columns {
		if parts := c.runs[0].Slices; len(parts) > 0 {
			fmt.Fprintf(w, "\n%s, %d photos, while they are worked off (the POST took %.1f s; until then the API and Temporal also start workflows):\n\n",
				c.name(), c.photos, c.runs[0].Post.Seconds())
			writeSlices(w, parts)
		}
	}
	fmt.Fprintln(w)
	for _, line := range r.facts() {
		fmt.Fprintln(w, "*", line)
	}
}

func writeSlices(w io.Writer, parts []slice) {
	header := []string{"photos completed", "photos/s", "CPU ms per photo"}
	for _, name := range roles {
		header = append(header, processesOf[name])
	}
	var lines [][]string
	for _, part := range parts {
		f := figures{Photos: part.To - part.From, Wall: part.Wall}
		line := []string{fmt.Sprintf("%d to %d", part.From, part.To), fmt.Sprintf("%.1f", f.rate()), fmt.Sprintf("%.1f", f.cost(sum(part.CPU)))}
		for _, name := range roles {
			line = append(line, fmt.Sprintf("%.1f", f.cost(part.CPU[name])))
		}
		lines = append(lines, line)
	}
	writeTable(w, header, lines)
}

// writeTable writes a Markdown table with aligned columns.
func writeTable(w io.Writer, header []string, lines [][]string) {
	widths := make([]int, len(header))
	for _, line := range append([][]string{header}, lines...) {
		for i, cell := range line {
			widths[i] = max(widths[i], len([]rune(cell)), 3)
		}
	}
	write := func(cells []string) {
		for i, cell := range cells {
			fill := strings.Repeat(" ", widths[i]-len([]rune(cell)))
			if i == 0 {
				cell += fill
			} else {
				cell = fill + cell
			}
			fmt.Fprintf(w, "| %s ", cell)
		}
		fmt.Fprintln(w, "|")
	}
	write(header)
	rule := make([]string, len(header))
	for i, width := range widths {
		rule[i] = strings.Repeat("-", width)
		if i > 0 {
			rule[i] = rule[i][1:] + ":"
		}
	}
	write(rule)
	for _, line := range lines {
		write(line)
	}
}

// facts describes the conditions of the measurement.
func (r *report) facts() []string {
	limitRuns, stackRuns := 0, 0
	for _, c := range r.columns {
		if c.stack == limitColumn {
			limitRuns = max(limitRuns, len(c.runs))
		} else {
			stackRuns = max(stackRuns, len(c.runs))
		}
	}
	facts := append(r.conditions(),
		fmt.Sprintf("The limit: %d processes, %s from memory with %s, no network and no database; each file equally often", runtime.NumCPU(), byMake,
			strings.Join(renderer.Environment(), " ")),
		fmt.Sprintf("Runs: %d of the limit, %d of each stack, on the same stack after %d photos to warm up; rates and costs are medians, latencies are over all runs, memory is the peak of all", limitRuns, stackRuns, warmup),
		singlesFact(),
		"Memory: the largest that a process of its kind ever was; where it says “in … processes”, the largest sum, looked at each second, with what they share counted once",
	)
	if r.versions["cluster"] != "" {
		facts = append(facts, "In the cluster, Temporal keeps its data in the same PostgreSQL, whose figures include that")
	}
	for _, g := range r.govips {
		limit := r.limitOf(&column{boxes: g.boxes})
		facts = append(facts, fmt.Sprintf("Cross-check%s: NewThumbnailFromBuffer and ExportJpeg for each box, the allocator as it comes: %.1f photos/s, %.1f CPU ms per photo, %d MiB (the limit: %.1f photos/s, %.1f ms)",
			(&column{boxes: g.boxes}).name(), g.rate(), g.cost(g.CPU[limitRole]), g.Memory[limitRole].Sum>>20, limit.rate(), limit.totalCost()))
	}
	return append(facts, r.reservations()...)
}
