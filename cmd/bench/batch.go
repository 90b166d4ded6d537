package main

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/procfs"
	"golang.org/x/sync/errgroup"
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

// batch posts n photos in one request and single photos meanwhile, and measures
// until all are completed.
func (s *stack) batch(ctx context.Context, server *photoServer, n, boxes int) (f figures, err error) {
	ctx, cancel := context.WithTimeout(ctx, batchTime+time.Duration(n)*photoTime)
	defer cancel()
	ids, err := s.addPhotos(ctx, server.urls(n))
	if err != nil {
		return f, err
	}
	supervised, err := s.supervised(ctx)
	if err != nil {
		return f, err
	}
	processes := &sampler{proc: s.proc, supervised: supervised, peaks: map[role]memory{}}
	if err := processes.sample(); err != nil {
		return f, err
	}
	stopSampling := every(sampleInterval, processes.sample)

	start := time.Now()
	postedAt := map[uuid.UUID]time.Time{} // of the single photos
	stopPosting := every(singleInterval, func() error {
		if len(postedAt) >= n/singleShare {
			return nil
		}
		single, err := s.addPhotos(ctx, server.urls(1))
		if err != nil {
			return err
		}
		posted := time.Now()
		if err := s.post(ctx, single...); err != nil {
			return err
		}
		f.SinglePosts = append(f.SinglePosts, time.Since(posted))
		postedAt[single[0]] = posted
		return nil
	})
	err = s.post(ctx, ids...)
	f.Post = time.Since(start)
	if err == nil {
		err = s.waitForAll(ctx)
	}
	if err = errors.Join(err, stopPosting()); err == nil {
		err = s.waitForAll(ctx) // the last single one
	}
	if err = errors.Join(err, stopSampling()); err != nil {
		return f, err
	}

	if err := processes.sample(); err != nil {
		return f, err
	}
	if now, err := s.supervised(ctx); err != nil || !maps.Equal(now, supervised) {
		return f, errors.Join(errors.New("a process of the stack was restarted meanwhile; see its log"), err)
	}
	samples := processes.samples
	first, last := samples[0], samples[len(samples)-1]
	f.CPU = subtract(last.cpu, first.cpu)
	f.Memory = processes.peaks
	f.setShares(first.machineTime, last.machineTime)

	completed, err := s.completions(ctx, slices.AppendSeq(ids, maps.Keys(postedAt)), boxes)
	if err != nil {
		return f, err
	}
	f.Photos = len(completed)
	var completions []time.Duration
	for id, at := range completed {
		completions = append(completions, at.Sub(start))
		if posted, single := postedAt[id]; single {
			f.Singles = append(f.Singles, at.Sub(posted))
		} else {
			f.Completed = append(f.Completed, at.Sub(start))
		}
	}
	f.Wall = slices.Max(completions)
	if n >= largeBatch {
		f.Slices = cut(samples, start, completions)
	}
	return f, nil
}

// every calls do at each interval until it fails or stop is called, which returns
// the error.
func every(interval time.Duration, do func() error) (stop func() error) {
	stopped := make(chan struct{})
	var calls errgroup.Group
	calls.Go(func() error {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-stopped:
				return nil
			case <-ticker.C:
				if err := do(); err != nil {
					return err
				}
			}
		}
	})
	return func() error {
		close(stopped)
		return calls.Wait()
	}
}

// sampler samples the processes of a stack.
type sampler struct {
	proc       procfs.FS
	supervised map[int]role
	samples    []sample
	peaks      map[role]memory
}

// sample is the CPU time that the machine and the stack have used up to one moment.
type sample struct {
	machineTime
	cpu map[role]time.Duration
}

func (s *sampler) sample() error {
	machine, err := readMachineTime(s.proc)
	if err != nil {
		return err
	}
	stats, err := readStats(s.proc)
	if err != nil {
		return err
	}
	members := findMembers(stats, s.supervised)
	s.samples = append(s.samples, sample{machine, cpuByRole(stats, members)})
	raisePeaks(s.peaks, memoryByRole(s.proc, members))
	return nil
}
