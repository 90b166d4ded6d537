package main

import (
	"runtime"
	"slices"
	"sort"
	"time"
)

// figures are the results of one run.
type figures struct {
	Photos int           // that were completed, the single ones included
	Wall   time.Duration // from the POST to the last of them
	CPU    map[role]time.Duration
	Memory map[role]memory

	// Shares of the machine's CPU time: this program, which serves the photos; other
	// processes; time stolen by the hypervisor.
	Bench, Others, Withheld float64

	Post        time.Duration   // of the POST of the batch
	Completed   []time.Duration // from that POST to each photo's completion
	SinglePosts []time.Duration // of each POST of one photo
	Singles     []time.Duration // from each such POST to the photo's completion

	Slices []slice // of a large batch
}

// setShares computes the shares of the machine's CPU time. CPU must be set.
func (f *figures) setShares(before, after machineTime) {
	all := float64(after.at.Sub(before.at)) * float64(runtime.NumCPU())
	bench := after.own - before.own
	f.Bench = float64(bench) / all
	f.Others = max(0, float64(after.busy-before.busy-sum(f.CPU)-bench)/all)
	f.Withheld = float64(after.withheld-before.withheld) / all
}

// rate is the throughput in photos per second.
func (f figures) rate() float64 { return float64(f.Photos) / f.Wall.Seconds() }

// cost converts CPU time to milliseconds per photo.
func (f figures) cost(cpu time.Duration) float64 { return milliseconds(cpu) / float64(f.Photos) }

func (f figures) totalCost() float64 { return f.cost(sum(f.CPU)) }

// Figures that are read from many runs.
func completed(f figures) []time.Duration   { return f.Completed }
func singlePosts(f figures) []time.Duration { return f.SinglePosts }
func singles(f figures) []time.Duration     { return f.Singles }
func benchPercent(f figures) float64        { return 100 * f.Bench }
func othersPercent(f figures) float64       { return 100 * f.Others }
func withheldPercent(f figures) float64     { return 100 * f.Withheld }

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func subtract(after, before map[role]time.Duration) map[role]time.Duration {
	used := map[role]time.Duration{}
	for r, cpu := range after {
		used[r] = cpu - before[r]
	}
	return used
}

func sum(cpu map[role]time.Duration) (total time.Duration) {
	for _, used := range cpu {
		total += used
	}
	return total
}

// sliceCount is the number of slices of a large batch.
const sliceCount = 5

// slice is a part of a batch.
type slice struct {
	From, To int // photos that were completed
	Wall     time.Duration
	CPU      map[role]time.Duration
}

// cut cuts a batch into slices of as many completed photos, at the nearest
// samples.
func cut(samples []sample, start time.Time, completions []time.Duration) (parts []slice) {
	slices.Sort(completions)
	completedBy := func(at time.Time) int {
		return sort.Search(len(completions), func(i int) bool { return completions[i] > at.Sub(start) })
	}
	first := samples[0] // of the next slice
	for i, last := range samples {
		from, to := completedBy(first.at), completedBy(last.at)
		enough := to >= len(completions)*(len(parts)+1)/sliceCount || i == len(samples)-1
		if enough && to > from {
			parts = append(parts, slice{From: from, To: to, Wall: last.at.Sub(first.at), CPU: subtract(last.cpu, first.cpu)})
			first = last
		}
	}
	return parts
}
