package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sort"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/photo-processor/photo-processor/internal/photo"
)

const (
	// lookInterval is how often photos are checked for completion. It does not limit
	// the precision, because rows have the time of completion.
	lookInterval = 200 * time.Millisecond
	// sampleInterval is how often the processes are sampled.
	sampleInterval = time.Second
	// singleInterval is how often a single photo is posted during a batch, at most
	// one per singleShare photos of the batch.
	singleInterval = 500 * time.Millisecond
	singleShare    = 10
	// batchTime plus photoTime per photo is the timeout of a batch, ten times its
	// usual duration.
	batchTime = 5 * time.Minute
	photoTime = time.Second
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

// setShares computes the shares of the machine's CPU time.
func (f *figures) setShares(before, after machineTime, accounted, bench time.Duration) {
	all := float64(after.at.Sub(before.at)) * float64(runtime.NumCPU())
	f.Bench = float64(bench) / all
	f.Others = max(0, float64(after.busy-before.busy-accounted-bench)/all)
	f.Withheld = float64(after.withheld-before.withheld) / all
}

// slice is a part of a batch.
type slice struct {
	From, To int // photos that were completed
	Wall     time.Duration
	CPU      map[role]time.Duration
}

// sample is the state of the stack at one moment.
type sample struct {
	at  time.Time
	cpu map[role]time.Duration
}

// batch posts n photos in one request and single photos meanwhile, and measures
// until all are completed.
func (s *stack) batch(ctx context.Context, server *photoServer, n, boxes int) (f figures, err error) {
	ctx, cancel := context.WithTimeout(ctx, batchTime+time.Duration(n)*photoTime)
	defer cancel()
	added, err := s.db.AddPhotos(ctx, server.urls(n))
	if err != nil {
		return f, err
	}
	all := idsOf(added)
	inputs := make([]string, n)
	for i, id := range all {
		inputs[i] = id.String()
	}

	supervised, err := s.supervised(ctx)
	if err != nil {
		return f, err
	}
	look := func() (sample, []member, error) {
		running, err := processes()
		return sample{time.Now(), cpuByRole(running, supervised)}, members(running, supervised), err
	}
	machine, err := machineCPU()
	if err != nil {
		return f, err
	}
	own := ownCPU()
	first, _, err := look()
	if err != nil {
		return f, err
	}
	samples := []sample{first}
	f.Memory = map[role]memory{}

	singlePosted := map[uuid.UUID]time.Time{}
	measuring, stopMeasuring := context.WithCancel(ctx)
	defer stopMeasuring()
	var meanwhile errgroup.Group
	meanwhile.Go(func() error {
		return every(measuring, sampleInterval, func() error {
			now, found, err := look()
			samples = append(samples, now)
			keepPeaks(f.Memory, memoryByRole(found))
			return err
		})
	})

	posting, stopPosting := context.WithCancel(ctx)
	defer stopPosting()
	var singles errgroup.Group
	start := time.Now()
	singles.Go(func() error {
		return every(posting, singleInterval, func() error {
			if len(singlePosted) >= n/singleShare {
				return nil
			}
			added, err := s.db.AddPhotos(ctx, server.urls(1))
			if err != nil {
				return err
			}
			posted := time.Now()
			if err := s.post(ctx, []string{added[0].UUID.String()}); err != nil {
				return err
			}
			f.SinglePosts = append(f.SinglePosts, time.Since(posted))
			singlePosted[added[0].UUID] = posted
			return nil
		})
	})
	err = s.post(ctx, inputs)
	f.Post = time.Since(start)
	if err == nil {
		err = s.waitForAll(ctx)
	}
	stopPosting()
	if err = errors.Join(err, singles.Wait()); err != nil {
		return f, err
	}
	if err := s.waitForAll(ctx); err != nil { // the last single one
		return f, err
	}
	stopMeasuring()
	if err := meanwhile.Wait(); err != nil {
		return f, err
	}
	last, found, err := look()
	if err != nil {
		return f, err
	}
	samples = append(samples, last)
	keepPeaks(f.Memory, memoryByRole(found))
	f.CPU = since(first.cpu, last.cpu)
	bench := ownCPU() - own
	after, err := machineCPU()
	if err != nil {
		return f, err
	}
	f.setShares(machine, after, sum(f.CPU), bench)
	if now, err := s.supervised(ctx); err != nil || !maps.Equal(now, supervised) {
		return f, errors.Join(errors.New("a process of the stack was restarted meanwhile; see its log"), err)
	}

	results, err := s.results(ctx, slices.AppendSeq(slices.Clone(all), maps.Keys(singlePosted)))
	if err != nil {
		return f, err
	}
	f.Photos = len(results)
	var completions []time.Duration
	for id, p := range results {
		if p.status != photo.Completed || p.thumbnailCount != boxes {
			return f, fmt.Errorf("photo %s is %s with %d thumbnails instead of %d: %s %s", id, p.status, p.thumbnailCount, boxes, p.code, p.message)
		}
		completions = append(completions, p.updatedAt.Sub(start))
		if posted, single := singlePosted[id]; single {
			f.Singles = append(f.Singles, p.updatedAt.Sub(posted))
		} else {
			f.Completed = append(f.Completed, p.updatedAt.Sub(start))
		}
	}
	f.Wall = slices.Max(completions)
	if n >= largeBatch {
		f.Slices = cut(samples, start, completions)
	}
	return f, nil
}

func idsOf(photos []photo.Photo) []uuid.UUID {
	ids := make([]uuid.UUID, len(photos))
	for i, p := range photos {
		ids[i] = p.UUID
	}
	return ids
}

// post posts UUIDs, all of which must be accepted.
func (s *stack) post(ctx context.Context, ids []string) error {
	accepted, _, err := s.api.Process(ctx, ids)
	if err == nil && len(accepted) != len(ids) {
		err = fmt.Errorf("the API accepted %d of %d UUIDs", len(accepted), len(ids))
	}
	return err
}

// waitForAll waits until each photo has its final status.
func (s *stack) waitForAll(ctx context.Context) error {
	for {
		some, err := s.unfinished(ctx)
		if err != nil || !some {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not all photos are completed: %w", ctx.Err())
		case <-time.After(lookInterval):
		}
	}
}

// every calls do at each interval until ctx ends or do fails.
func every(ctx context.Context, interval time.Duration, do func() error) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := do(); err != nil {
				return err
			}
		}
	}
}

func since(before, after map[role]time.Duration) map[role]time.Duration {
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

// keepPeaks raises the peaks to the present values.
func keepPeaks(peaks, now map[role]memory) {
	for r, m := range now {
		p := peaks[r]
		peaks[r] = memory{max(p.Processes, m.Processes), max(p.Largest, m.Largest), max(p.Sum, m.Sum)}
	}
}

// sliceCount is the number of slices of a large batch.
const sliceCount = 5

// cut cuts a batch into slices of as many completed photos, at the nearest
// samples.
func cut(samples []sample, start time.Time, completions []time.Duration) (parts []slice) {
	slices.Sort(completions)
	completedBy := func(at time.Time) int {
		return sort.Search(len(completions), func(i int) bool { return completions[i] > at.Sub(start) })
	}
	from := 0 // of samples
	for i := 1; i < len(samples); i++ {
		done := completedBy(samples[i].at)
		if done < len(completions)*(len(parts)+1)/sliceCount && i < len(samples)-1 {
			continue
		}
		before := completedBy(samples[from].at)
		if done == before {
			continue
		}
		parts = append(parts, slice{
			From: before, To: done, Wall: samples[i].at.Sub(samples[from].at), CPU: since(samples[from].cpu, samples[i].cpu),
		})
		from = i
	}
	return parts
}
