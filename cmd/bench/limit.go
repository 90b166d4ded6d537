package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/davidbyttow/govips/v2/vips"
	"golang.org/x/sys/unix"

	"github.com/photo-processor/photo-processor/internal/renderer"
	"github.com/photo-processor/photo-processor/internal/thumbnail"
)

// limitCommand is the first argument of a process that measures the limit.
const limitCommand = "limit"

// How the limit makes thumbnails.
const (
	// byMake is the limit: as photo-processor-render, with the same settings of the C
	// library's allocator.
	byMake = "thumbnail.Make"
	// byGovips is a small program that trusts its pictures.
	byGovips = "plain govips"
)

// measureLimit makes thumbnails of all photos, so many times on each CPU, in
// processes that do nothing else: one for each CPU, as the worker has render
// processes. All begin at the same time, after they have warmed up.
func measureLimit(ctx context.Context, set *photoSet, boxes, times int, how string) (f figures, err error) {
	var processes []*limitProcess
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel() // which ends those that still run after an error
		for _, p := range processes {
			_ = p.cmd.Wait()
		}
	}()
	for range runtime.NumCPU() {
		p, err := startLimitProcess(ctx, set, boxes, times, how)
		if err != nil {
			return f, err
		}
		processes = append(processes, p)
	}
	for _, p := range processes {
		if err := p.waitUntilWarm(); err != nil {
			return f, err
		}
	}
	before, err := machineCPU()
	if err != nil {
		return f, err
	}
	start := time.Now()
	for _, p := range processes {
		if err := p.release.Close(); err != nil {
			return f, err
		}
	}
	f.CPU = map[role]time.Duration{}
	used := memory{Processes: len(processes)}
	for _, p := range processes {
		made, err := p.result()
		if err != nil {
			return f, err
		}
		f.Photos += made.Photos
		f.CPU[limitRole] += made.CPU
		used.Largest = max(used.Largest, made.Memory)
		used.Sum += made.Memory
	}
	f.Wall = time.Since(start)
	f.Memory = map[role]memory{limitRole: used}
	after, err := machineCPU()
	if err != nil {
		return f, err
	}
	f.setShares(before, after, f.CPU[limitRole], 0)
	return f, nil
}

// limitProcess is a process that measures the limit.
type limitProcess struct {
	cmd     *exec.Cmd
	release io.Closer // its stdin
	output  *bufio.Reader
	stderr  bytes.Buffer
}

func startLimitProcess(ctx context.Context, set *photoSet, boxes, times int, how string) (*limitProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &limitProcess{cmd: exec.CommandContext(ctx, self, limitCommand, "-dir", set.dir, "-times", strconv.Itoa(times), "-boxes", strconv.Itoa(boxes), "-how", how)}
	p.cmd.Env = []string{}
	if how == byMake {
		p.cmd.Env = renderer.Environment()
	}
	p.cmd.Stderr = &p.stderr
	if p.release, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	output, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.output = bufio.NewReader(output)
	return p, p.cmd.Start()
}

// waitUntilWarm waits for the line that the process writes when it is warm.
func (p *limitProcess) waitUntilWarm() error {
	if _, err := p.output.ReadString('\n'); err != nil {
		return p.explain(err)
	}
	return nil
}

// result waits until the process has made all thumbnails.
func (p *limitProcess) result() (made limitResult, err error) {
	if err := json.NewDecoder(p.output).Decode(&made); err != nil {
		return made, p.explain(err)
	}
	return made, nil
}

// explain waits for the process to exit, and returns why it failed.
func (p *limitProcess) explain(err error) error {
	return fmt.Errorf("%w\n%s", errors.Join(err, p.cmd.Wait()), p.stderr.Bytes())
}

// limitResult is the output of such a process, as JSON.
type limitResult struct {
	Photos int
	CPU    time.Duration
	Memory int64 // peak, without the photos' files
}

// runLimit is the main function of such a process.
func runLimit(args []string, in io.Reader, out io.Writer) error {
	flags := flag.NewFlagSet(limitCommand, flag.ContinueOnError)
	dir := flags.String("dir", "", "where the photos are")
	times := flags.Int("times", 0, "how often to make thumbnails of each photo")
	boxes := flags.Int("boxes", 0, "a key of boxSets")
	how := flags.String("how", "", "byMake or byGovips")
	if err := flags.Parse(args); err != nil {
		return err
	}
	makeThumbnails := map[string]func([]byte, int) error{byMake: makeAsRenderer, byGovips: makeWithGovips}[*how]
	if makeThumbnails == nil {
		return fmt.Errorf("-how %q", *how)
	}
	paths, err := filepath.Glob(filepath.Join(*dir, "[0-9][0-9]-*"))
	if err != nil {
		return err
	}
	if len(paths) == 0 {
		return fmt.Errorf("there are no photos in %s", *dir)
	}
	set := map[string][]byte{}
	var setBytes int64
	for _, path := range paths {
		if set[path], err = mapFile(path); err != nil {
			return err
		}
		setBytes += int64(len(set[path]))
	}
	if err := thumbnail.Startup(); err != nil {
		return err
	}
	do := func(times int) error {
		for range times {
			for _, path := range paths {
				if err := makeThumbnails(set[path], *boxes); err != nil {
					return fmt.Errorf("%s: %w", path, err)
				}
			}
		}
		return nil
	}
	// Warm up: libvips loads its modules at the first use.
	if err := do(1); err != nil {
		return err
	}
	fmt.Fprintln(out, "warm")
	if _, err := io.Copy(io.Discard, in); err != nil {
		return err
	}
	cpu := ownCPU()
	if err := do(*times); err != nil {
		return err
	}
	result := limitResult{Photos: *times * len(paths), CPU: ownCPU() - cpu}
	status, err := readMemory(os.Getpid())
	if err != nil {
		return err
	}
	result.Memory = status.peak - setBytes
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
