package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/photo-processor/photo-processor/internal/renderer"
)

// report has all results.
type report struct {
	machine  string
	load     float64 // of the machine before the start
	photos   string
	settings []string
	versions map[string]string // of the servers, by stack or revision
	columns  []*column
	govips   []*column // the cross-checks
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
	// median is a cell that the limit does not have.
	median := func(format string, ofs ...func(figures) float64) func(*column) string {
		return func(c *column) string {
			if c.isLimit() {
				return nothing
			}
			return c.format(format, ofs...)
		}
	}
	percentiles := func(of func(figures) []time.Duration, format string, unit time.Duration, low, high float64) func(*column) string {
		return func(c *column) string {
			values := c.pooled(of)
			if len(values) == 0 {
				return nothing
			}
			in := func(p float64) float64 { return float64(percentile(values, p)) / float64(unit) }
			return fmt.Sprintf(format, in(low), in(high))
		}
	}
	rows := []row{
		{"photos", func(c *column) string { return fmt.Sprint(c.photos) }},
		{"**photos/s**", func(c *column) string { return c.format("**%.1f**", figures.rate) }},
		{"of the limit", func(c *column) string { return fmt.Sprintf("%.0f %%", 100*c.rate()/r.limitOf(c).rate()) }},
		{"**CPU ms per photo**", func(c *column) string { return c.format("**%.1f**", figures.totalCost) }},
	}
	for _, name := range roles {
		rows = append(rows, row{"– " + string(name), median("%.1f", func(f figures) float64 { return f.cost(f.CPU[name]) })})
	}
	rows = append(rows,
		row{"from POST to completed, p50 / p95, s", percentiles(completed, "%.2f / %.2f", time.Second, 50, 95)},
		row{"POST of all photos, s", median("%.2f", func(f figures) float64 { return f.Post.Seconds() })},
		row{"POST of one photo meanwhile, p50 / p99, ms", percentiles(singlePosts, "%.1f / %.1f", time.Millisecond, 50, 99)},
		row{"from that POST to completed, p50 / p95, s", percentiles(singles, "%.2f / %.2f", time.Second, 50, 95)},
		row{"peak memory, MiB: the limit's processes, without the photos' files", func(c *column) string { return c.memory(limitRole) }},
	)
	for _, name := range roles {
		rows = append(rows, row{"– " + string(name), func(c *column) string { return c.memory(name) }})
	}
	return append(rows,
		row{"of all CPUs: the benchmark, which serves the photos", median("%.1f %%", benchPercent)},
		row{"of all CPUs: other processes / the hypervisor", func(c *column) string {
			return c.format("%.1f %% / %.1f %%", othersPercent, withheldPercent)
		}},
	)
}

// write writes the report as Markdown.
func (r *report) write(w io.Writer) {
	table := [][]string{{""}}
	for _, c := range r.columns {
		table[0] = append(table[0], c.name())
	}
	for _, row := range r.rows() {
		line := []string{row.name}
		for _, c := range r.columns {
			line = append(line, row.cell(c))
		}
		table = append(table, line)
	}
	writeTable(w, table)
	for _, c := range r.columns {
		if parts := c.runs[0].Slices; len(parts) > 0 {
			fmt.Fprintf(w, "\n%s, %d photos, while they are worked off (the POST took %.1f s; until then the API and Temporal also start workflows):\n\n",
				c.name(), c.photos, c.runs[0].Post.Seconds())
			writeSlices(w, parts)
		}
	}
	fmt.Fprintln(w)
	r.writeFacts(w, r.facts())
}

func writeSlices(w io.Writer, parts []slice) {
	table := [][]string{{"photos completed", "photos/s", "CPU ms per photo"}}
	for _, name := range roles {
		table[0] = append(table[0], string(name))
	}
	for _, part := range parts {
		f := figures{Photos: part.To - part.From, Wall: part.Wall, CPU: part.CPU}
		line := []string{fmt.Sprintf("%d to %d", part.From, part.To), fmt.Sprintf("%.1f", f.rate()), fmt.Sprintf("%.1f", f.totalCost())}
		for _, name := range roles {
			line = append(line, fmt.Sprintf("%.1f", f.cost(f.CPU[name])))
		}
		table = append(table, line)
	}
	writeTable(w, table)
}

// writeTable writes a Markdown table with aligned columns. The first line is the
// header.
func writeTable(w io.Writer, lines [][]string) {
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell), 3)
		}
	}
	for i, line := range lines {
		for column, cell := range line {
			width := widths[column]
			if column == 0 {
				width = -width // to the left
			}
			fmt.Fprintf(w, "| %*s ", width, cell)
		}
		fmt.Fprintln(w, "|")
		if i > 0 {
			continue
		}
		fmt.Fprintf(w, "| %s ", strings.Repeat("-", widths[0]))
		for _, width := range widths[1:] {
			fmt.Fprintf(w, "| %s: ", strings.Repeat("-", width-1))
		}
		fmt.Fprintln(w, "|")
	}
}

// facts describes how the figures were measured.
func (r *report) facts() []string {
	limit, stack := r.columns[0], r.columns[len(r.columns)-1]
	facts := []string{
		fmt.Sprintf("The limit: %d processes, thumbnail.Make from memory with %s, no network and no database; each file equally often", runtime.NumCPU(),
			strings.Join(renderer.Environment(), " ")),
		fmt.Sprintf("Runs: %d of the limit, %d of each stack, on the same stack after %d photos to warm up; rates and costs are medians, latencies are over all runs, memory is the peak of all", len(limit.runs), len(stack.runs), warmup),
		singlesFact,
		"Memory: the largest that a process of its kind ever was; where it says “in … processes”, the largest sum, looked at each second, with what they share counted once",
	}
	if r.versions[cluster] != "" {
		facts = append(facts, "In the cluster, Temporal keeps its data in the same PostgreSQL, whose figures include that")
	}
	for _, c := range r.govips {
		limit, run := r.limitOf(c), c.runs[0]
		facts = append(facts, fmt.Sprintf("Cross-check, %s: NewThumbnailFromBuffer and ExportJpeg for each box, the allocator as it comes: %.1f photos/s, %.1f CPU ms per photo, %d MiB (the limit: %.1f photos/s, %.1f ms)",
			boxesText(c.boxes), c.rate(), c.totalCost(), run.Memory[limitRole].Sum>>20, limit.rate(), limit.totalCost()))
	}
	return facts
}
