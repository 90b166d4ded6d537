package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/davidbyttow/govips/v2/vips"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/photo-processor/photo-processor/internal/renderer"
	"github.com/photo-processor/photo-processor/internal/thumbnail"
)

// limitCommand is the first argument of the process that measures the limit. It is
// a process of its own, so that its CPU time and memory can be measured.
const limitCommand = "limit"

// How the limit makes thumbnails.
const (
	// byMake is the limit: as photo-processor-render, with the same settings of the C
	// library's allocator.
	byMake = "thumbnail.Make"
	// byGovips is a small program that trusts its pictures.
	byGovips = "plain govips"
)

// startLimit makes thumbnails of the first n photos in a process that does nothing
// else, with one goroutine per CPU.
func startLimit(ctx context.Context, set *photoSet, boxes, n int, how string) (figures, error) {
	self, err := os.Executable()
	if err != nil {
		return figures{}, err
	}
	cmd := exec.CommandContext(ctx, self, limitCommand, "-dir", set.dir, "-n", strconv.Itoa(n), "-boxes", strconv.Itoa(boxes), "-how", how)
	cmd.Env = []string{}
	if how == byMake {
		cmd.Env = renderer.Environment()
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	before, err := machineCPU()
	if err != nil {
		return figures{}, err
	}
	output, err := cmd.Output()
	if err != nil {
		return figures{}, fmt.Errorf("%w\n%s", err, stderr.Bytes())
	}
	after, err := machineCPU()
	if err != nil {
		return figures{}, err
	}
	var made limitResult
	if err := json.Unmarshal(output, &made); err != nil {
		return figures{}, err
	}
	f := figures{
		Photos: n, Wall: made.Wall,
		CPU:    map[role]time.Duration{limitRole: made.CPU},
		Memory: map[role]memory{limitRole: {Processes: 1, Largest: made.PeakMemory - made.SetBytes, Sum: made.PeakMemory - made.SetBytes}},
	}
	f.setShares(before, after, made.AllCPU, 0)
	return f, nil
}

// limitResult is the output of that process, as JSON.
type limitResult struct {
	Wall, CPU  time.Duration // of the photos alone
	AllCPU     time.Duration // with the start
	PeakMemory int64
	SetBytes   int64 // of PeakMemory, for the photos' files
}

// runLimit is the main function of that process.
func runLimit(args []string, out io.Writer) error {
	flags := flag.NewFlagSet(limitCommand, flag.ContinueOnError)
	dir := flags.String("dir", "", "where the photos are")
	n := flags.Int("n", 0, "how many to make thumbnails of")
	boxes := flags.Int("boxes", 0, "a key of boxSets")
	how := flags.String("how", "", "byMake or byGovips")
	if err := flags.Parse(args); err != nil {
		return err
	}
	makeThumbnails := map[string]func([]byte, int) error{byMake: makeAsRenderer, byGovips: makeWithGovips}[*how]
	if makeThumbnails == nil {
		return fmt.Errorf("-how %q", *how)
	}
	paths, err := filepath.Glob(filepath.Join(*dir, "[0-9][0-9]-*")) // in their order
	if err != nil {
		return err
	}
	if len(paths) == 0 {
		return fmt.Errorf("there are no photos in %s", *dir)
	}
	var result limitResult
	var set [][]byte
	for _, path := range paths {
		content, err := mapFile(path)
		if err != nil {
			return err
		}
		set = append(set, content)
		result.SetBytes += int64(len(content))
	}
	if err := thumbnail.Startup(); err != nil {
		return err
	}
	do := func(n int) error {
		var next atomic.Int64
		var group errgroup.Group
		for range runtime.NumCPU() {
			group.Go(func() error {
				for {
					i := int(next.Add(1) - 1)
					if i >= n {
						return nil
					}
					if err := makeThumbnails(set[i%len(set)], *boxes); err != nil {
						return fmt.Errorf("%s: %w", paths[i%len(set)], err)
					}
				}
			})
		}
		return group.Wait()
	}
	// Warm up: libvips loads its modules at the first use.
	if err := do(len(set)); err != nil {
		return err
	}
	cpu, start := ownCPU(), time.Now()
	if err := do(*n); err != nil {
		return err
	}
	result.Wall, result.AllCPU = time.Since(start), ownCPU()
	result.CPU = result.AllCPU - cpu
	status, err := readMemory(os.Getpid())
	if err != nil {
		return err
	}
	result.PeakMemory = status.peak
	return json.NewEncoder(out).Encode(result)
}

// mapFile maps a file into memory. Go's garbage collector would reserve as much
// again for content on its heap.
func mapFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	return unix.Mmap(int(file.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
}

func makeAsRenderer(source []byte, boxes int) error {
	made, err := thumbnail.Make(source, thumbnail.Options{Boxes: boxSets[boxes]})
	if err == nil && len(made.Thumbnails) != boxes {
		err = fmt.Errorf("%d thumbnails instead of %d", len(made.Thumbnails), boxes)
	}
	return err
}

// makeWithGovips decodes the photo once per box, as most programs do.
func makeWithGovips(source []byte, boxes int) error {
	for _, box := range boxSets[boxes] {
		picture, err := vips.NewThumbnailFromBuffer(source, box.Width, box.Height, vips.InterestingNone)
		if err != nil {
			return err
		}
		_, _, err = picture.ExportJpeg(&vips.JpegExportParams{Quality: thumbnail.DefaultQuality, StripMetadata: true})
		picture.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
