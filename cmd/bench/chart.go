package main

import (
	"bytes"
	"fmt"
	"html/template"
	"math"
	"runtime"
)

// chart draws the report as an SVG, for light and dark backgrounds: one bar per
// column, whose length is the CPU time per photo, divided into processes.
func chart(r *report) []byte {
	const left, right, barHeight, gap, top = 170.0, 220.0, 30.0, 12.0, 92.0
	const width = 900.0
	longest := 0.0
	for _, c := range r.columns {
		longest = max(longest, c.totalCost())
	}
	step := niceStep(longest / 5)
	longest = math.Ceil(longest/step) * step
	scale := (width - left - right) / longest

	var d drawing
	d.Width = width
	y := top
	for i, c := range r.columns {
		if i > 0 && c.boxes != r.columns[i-1].boxes {
			y += gap
		}
		b := bar{Name: c.label(r.batchesDiffer()), Y: y, TextY: y + barHeight/2 + 5, Height: barHeight, NameX: left - 12}
		b.Figures = fmt.Sprintf("%.1f photos/s", c.rate())
		if !c.isLimit() {
			b.Figures += fmt.Sprintf(" (%.0f %%)", 100*c.rate()/r.limitOf(c).rate())
		}
		x := left
		for _, p := range parts(c) {
			w := p.milliseconds * scale
			s := segment{Class: p.class, X: x, Width: max(0, w-segmentGap), Title: fmt.Sprintf("%s: %.1f ms", p.name, p.milliseconds)}
			if w > 30 {
				s.Label, s.LabelX = fmt.Sprintf("%.0f", p.milliseconds), x+(w-segmentGap)/2
			}
			b.Segments = append(b.Segments, s)
			x += w
		}
		b.Total, b.TotalX = fmt.Sprintf("%.0f ms", c.totalCost()), width-right+16
		b.FiguresX = b.TotalX + 62
		d.Bars = append(d.Bars, b)
		y += barHeight + gap
	}
	d.AxisTop, d.AxisBottom = top-8, y-gap+8
	for value := 0.0; value <= longest+step/2; value += step {
		d.Lines = append(d.Lines, gridLine{X: left + value*scale, Label: fmt.Sprintf("%.0f", value)})
	}
	d.LabelY = d.AxisBottom + 18
	x := left
	for _, p := range legend {
		d.Legend = append(d.Legend, legendEntry{Class: p.class, X: x, TextX: x + 18, Name: p.name})
		x += 34 + 7.2*float64(len(p.name))
	}
	d.Note = fmt.Sprintf("%s; percentages are of the limit with the same boxes", r.machine.short())
	d.NoteY = d.LabelY + 26
	d.Height = d.NoteY + 14
	var svg bytes.Buffer
	if err := svgTemplate.Execute(&svg, d); err != nil {
		panic(err) // the template is wrong
	}
	return svg.Bytes()
}

// segmentGap separates the parts of a bar, for colour-blind readers.
const segmentGap = 1.5

// part is a process's share of a bar. Small ones are combined.
type part struct {
	class, name  string
	milliseconds float64
}

var legend = []part{
	{class: "render", name: "thumbnails (render processes)"}, {class: "worker", name: "worker"}, {class: "temporal", name: "Temporal"},
	{class: "postgres", name: "PostgreSQL"}, {class: "api", name: "API"},
}

func parts(c *column) []part {
	if c.isLimit() {
		return []part{{"render", "thumbnails", c.totalCost()}}
	}
	found := make([]part, len(legend))
	copy(found, legend)
	for i, r := range []role{renderRole, workerRole, temporalRole, postgresRole, apiRole} {
		found[i].milliseconds = c.cost(r)
	}
	return found
}

// label is the name of a bar.
func (c *column) label(withPhotos bool) string {
	if withPhotos && !c.isLimit() {
		return fmt.Sprintf("%s, %d photos", c.stack, c.photos)
	}
	return c.name()
}

// batchesDiffer reports whether columns differ only in their batch.
func (r *report) batchesDiffer() bool {
	for _, c := range r.columns {
		for _, other := range r.columns {
			if c.stack == other.stack && c.boxes == other.boxes && c.photos != other.photos {
				return true
			}
		}
	}
	return false
}

func (m machine) short() string { return fmt.Sprintf("%d × %s", runtime.NumCPU(), m.cpu) }

// niceStep rounds up to 1, 2 or 5 times a power of ten.
func niceStep(value float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(max(value, 1e-9))))
	for _, factor := range []float64{1, 2, 5} {
		if factor*power >= value {
			return factor * power
		}
	}
	return 10 * power
}

type drawing struct {
	Width, Height       float64
	Bars                []bar
	Lines               []gridLine
	Legend              []legendEntry
	AxisTop, AxisBottom float64
	LabelY, NoteY       float64
	Note                string
}

type bar struct {
	Name, Figures, Total                      string
	NameX, Y, TextY, Height, TotalX, FiguresX float64
	Segments                                  []segment
}

type segment struct {
	Class, Title, Label string
	X, Width, LabelX    float64
}

type gridLine struct {
	X     float64
	Label string
}

type legendEntry struct {
	Class, Name string
	X, TextX    float64
}

// Okabe and Ito's colours, which colour-blind readers can distinguish, with
// contrast on both backgrounds.
var svgTemplate = template.Must(template.New("svg").Parse(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{.Width}} {{.Height}}" width="{{.Width}}" height="{{.Height}}" role="img" aria-label="CPU time per photo, by process">
<style>
  text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #24292f }
  .title { font-size: 17px; font-weight: 600 }
  .small { font-size: 12px; fill: #57606a }
  .end { text-anchor: end } .middle { text-anchor: middle }
  .strong { font-weight: 600 }
  .grid { stroke: #d0d7de; stroke-width: 1 }
  .render { fill: #0072b2 } .worker { fill: #d55e00 } .temporal { fill: #009e73 } .postgres { fill: #b0568c } .api { fill: #a07800 }
  text.on { fill: #fff; font-size: 12px }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small { fill: #9da7b3 } .grid { stroke: #3d444d }
    .render { fill: #3d96d0 } .worker { fill: #e8762c } .temporal { fill: #1fae86 } .postgres { fill: #cc79a7 } .api { fill: #c9a227 }
    text.on { fill: #0d1117 }
  }
</style>
<text class="title" x="16" y="28">CPU time per photo, in milliseconds</text>
{{range .Legend}}<rect class="{{.Class}}" x="{{.X}}" y="46" width="12" height="12" rx="2"/><text class="small" x="{{.TextX}}" y="57">{{.Name}}</text>
{{end}}{{range .Lines}}<line class="grid" x1="{{.X}}" x2="{{.X}}" y1="{{$.AxisTop}}" y2="{{$.AxisBottom}}"/><text class="small middle" x="{{.X}}" y="{{$.LabelY}}">{{.Label}}</text>
{{end}}{{range .Bars}}{{$bar := .}}<text class="end" x="{{.NameX}}" y="{{.TextY}}">{{.Name}}</text>
{{range .Segments}}<rect class="{{.Class}}" x="{{.X}}" y="{{$bar.Y}}" width="{{.Width}}" height="{{$bar.Height}}" rx="2"><title>{{.Title}}</title></rect>{{if .Label}}<text class="on middle" x="{{.LabelX}}" y="{{$bar.TextY}}">{{.Label}}</text>{{end}}
{{end}}<text x="{{.TotalX}}" y="{{.TextY}}"><tspan class="strong">{{.Total}}</tspan></text><text x="{{.FiguresX}}" y="{{.TextY}}" class="small">{{.Figures}}</text>
{{end}}<text class="small" x="16" y="{{.NoteY}}">{{.Note}}</text>
</svg>
`))
