// Package scaling computes from what one photo costs what so many photos a
// second need. docs/scaling.md has the measured costs and the result; the test
// holds one against the other, and the rules against a simulation.
package scaling

import (
	"fmt"
	"math"
	"strings"
)

// Costs are what one photo costs, as measured.
type Costs struct {
	RenderMS, WorkerMS, APIMS     float64 // CPU time of the processes that render, the worker and the API
	TemporalMS                    float64 // of Temporal's server
	PhotosDBMS, TemporalDBMS      float64 // of PostgreSQL for either database
	PhotosCommits                 float64 // transactions in the photos' database
	TemporalCommits               float64 // in Temporal's
	PhotosWALKB, TemporalWALKB    float64 // write-ahead log of each
	HistoryUpdates                float64 // writes of one workflow's state, one after the other under its shard's lock
	HistoryKB                     float64 // what a closed workflow leaves in Temporal's database
	SourceMB, ThumbnailKB         float64
	BucketRequests                float64
	ShardWriteMS, CommitsASecond  float64 // one write of a shard; what one PostgreSQL can commit
	WALMBASecond, GbitASecondHost float64 // what one PostgreSQL can log; what one host can receive
	UtilisationPercent            float64 // planned, of what is there
	CoresAWorker, RetentionDays   float64
}

// Needs are what a rate needs.
type Needs struct {
	Rate                                             float64 // photos a second
	WorkerCores, Workers, TemporalCores              int
	DatabaseCores, APICores, Shards                  int
	PhotosCommits, TemporalCommits                   float64 // a second
	WALMB, IngressGbit, BucketRequests, ThumbnailsGB float64 // the last a day, the others a second
	HistoryGB                                        float64 // as long as histories are kept
	Databases                                        int     // PostgreSQL primaries for Temporal
	PhotosDatabases                                  int
}

// For computes the needs of a rate.
func (c Costs) For(rate float64) Needs {
	use := c.UtilisationPercent / 100
	cores := func(ms float64) int { return max(1, int(math.Ceil(rate*ms/1000/use))) }
	n := Needs{Rate: rate}
	n.WorkerCores = cores(c.RenderMS + c.WorkerMS)
	n.Workers = int(math.Ceil(float64(n.WorkerCores) / c.CoresAWorker))
	n.TemporalCores, n.DatabaseCores, n.APICores = cores(c.TemporalMS), cores(c.PhotosDBMS+c.TemporalDBMS), cores(c.APIMS)
	// Shards are hashed to, so that some have twice the mean; and a power of two
	// is usual.
	perShard := 1000 / (c.HistoryUpdates * c.ShardWriteMS) * use / 2
	n.Shards = 1 << max(0, int(math.Ceil(math.Log2(rate/perShard))))
	n.PhotosCommits, n.TemporalCommits = rate*c.PhotosCommits, rate*c.TemporalCommits
	n.WALMB = rate * (c.PhotosWALKB + c.TemporalWALKB) / 1000
	n.IngressGbit = rate * c.SourceMB * 8 / 1000
	n.BucketRequests = rate * c.BucketRequests
	n.ThumbnailsGB = rate * c.ThumbnailKB * 86400 / 1e6
	n.HistoryGB = rate * c.HistoryKB * 86400 * c.RetentionDays / 1e6
	databases := func(commits, walKB float64) int {
		return max(1, int(math.Ceil(max(rate*commits/c.CommitsASecond, rate*walKB/1000/c.WALMBASecond)/use)))
	}
	n.Databases = databases(c.TemporalCommits, c.TemporalWALKB)
	n.PhotosDatabases = databases(c.PhotosCommits, c.PhotosWALKB)
	return n
}

// Limit is the rate at which something of which there is one is used as far as
// planned.
type Limit struct {
	What string
	Rate float64 // photos a second
}

// Limits gives them for one of each, with as many cores as that has.
func (c Costs) Limits(cores float64) []Limit {
	use := c.UtilisationPercent / 100
	return []Limit{
		{fmt.Sprintf("a worker of %.0f cores", cores), cores * use * 1000 / (c.RenderMS + c.WorkerMS)},
		{fmt.Sprintf("a Temporal server of %.0f cores", cores), cores * use * 1000 / c.TemporalMS},
		{"PostgreSQL for Temporal, by its commits", use * c.CommitsASecond / c.TemporalCommits},
		{"PostgreSQL for Temporal, by its log", use * c.WALMBASecond * 1000 / c.TemporalWALKB},
		{"PostgreSQL for the photos, by its commits", use * c.CommitsASecond / c.PhotosCommits},
		{"128 history shards", 128 * 1000 / (c.HistoryUpdates * c.ShardWriteMS) * use / 2},
		{"the network of one worker host", use * c.GbitASecondHost * 1000 / 8 / c.SourceMB},
		{"one API of one core", use * 1000 / c.APIMS},
	}
}

// Table is the needs in Markdown, a column for each rate.
func Table(needs ...Needs) string {
	var b strings.Builder
	row := func(name string, of func(Needs) string) {
		fmt.Fprintf(&b, "| %s |", name)
		for _, n := range needs {
			fmt.Fprintf(&b, " %s |", of(n))
		}
		b.WriteByte('\n')
	}
	number := func(of func(Needs) float64) func(Needs) string {
		return func(n Needs) string { return round(of(n)) }
	}
	row("photos a second", number(func(n Needs) float64 { return n.Rate }))
	b.WriteString("| ---" + strings.Repeat(" | ---:", len(needs)) + " |\n")
	row("cores of workers", number(func(n Needs) float64 { return float64(n.WorkerCores) }))
	row("workers", number(func(n Needs) float64 { return float64(n.Workers) }))
	row("cores of APIs", number(func(n Needs) float64 { return float64(n.APICores) }))
	row("cores of Temporal's server", number(func(n Needs) float64 { return float64(n.TemporalCores) }))
	row("cores of PostgreSQL, both", number(func(n Needs) float64 { return float64(n.DatabaseCores) }))
	row("history shards, at least", number(func(n Needs) float64 { return float64(n.Shards) }))
	row("commits a second, Temporal's database", number(func(n Needs) float64 { return n.TemporalCommits }))
	row("commits a second, the photos' database", number(func(n Needs) float64 { return n.PhotosCommits }))
	row("write-ahead log, MB/s", number(func(n Needs) float64 { return n.WALMB }))
	row("PostgreSQL primaries for Temporal", number(func(n Needs) float64 { return float64(n.Databases) }))
	row("PostgreSQL primaries for the photos", number(func(n Needs) float64 { return float64(n.PhotosDatabases) }))
	row("from the sources, Gbit/s", number(func(n Needs) float64 { return n.IngressGbit }))
	row("requests to the bucket a second", number(func(n Needs) float64 { return n.BucketRequests }))
	row("thumbnails, GB a day", number(func(n Needs) float64 { return n.ThumbnailsGB }))
	row("histories kept, GB", number(func(n Needs) float64 { return n.HistoryGB }))
	return b.String()
}

// LimitsTable is the limits in Markdown.
func LimitsTable(limits []Limit) string {
	var b strings.Builder
	b.WriteString("| one of this | is enough for photos a second |\n| --- | ---: |\n")
	for _, l := range limits {
		fmt.Fprintf(&b, "| %s | %s |\n", l.What, round(l.Rate))
	}
	return b.String()
}

// round gives two digits, the inputs are no better; and counts as they are.
func round(x float64) string {
	if x == math.Trunc(x) && x < 10_000 {
		return fmt.Sprintf("%.0f", x)
	}
	unit := math.Pow(10, math.Floor(math.Log10(math.Abs(x)))-1)
	digits := max(0, int(-math.Log10(unit)+0.5))
	return fmt.Sprintf("%.*f", digits, math.Round(x/unit)*unit)
}
