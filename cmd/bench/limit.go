package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"time"

	"github.com/davidbyttow/govips/v2/vips"
	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/photo-processor/photo-processor/internal/renderer"
	"github.com/photo-processor/photo-processor/internal/thumbnail"
)

// limitCommand is the first argument of a process that measures the limit.
const limitCommand = "limit"

// limitJob says what a process that measures the limit does. It is the argument of
// limitCommand, as JSON.
type limitJob struct {
	Paths  []string // of the photos
	Boxes  int      // a key of boxSets
	Times  int      // how often to make thumbnails of each photo
	Govips bool     // measures a small program that trusts its pictures instead of the limit
}

// limitResult is a line of such a process's output, as JSON. The process writes the
// first line when it has warmed up.
type limitResult struct {
	Photos int
	CPU    time.Duration
	Memory uint64 // peak in bytes, without the photos' files
}

// measureLimit runs the job in one process for each CPU, as the worker has render
// processes. The processes do nothing else. All begin at the same time, after they
// have warmed up.
func measureLimit(ctx context.Context, proc procfs.FS, job limitJob) (f figures, err error) {
	var processes []*limitProcess
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel() // which ends those that still run after an error
		for _, p := range processes {
			_ = p.cmd.Wait()
		}
	}()
	for range runtime.NumCPU() {
		p, err := startLimitProcess(ctx, job)
		if err != nil {
			return f, err
		}
		processes = append(processes, p)
	}
	for _, p := range processes {
		if _, err := p.read(); err != nil { // it is warm
			return f, err
		}
	}
	before, err := readMachineTime(proc)
	if err != nil {
		return f, err
	}
	start := time.Now()
	for _, p := range processes {
		if err := p.stdin.Close(); err != nil {
			return f, err
		}
	}
	f.CPU = map[role]time.Duration{}
	used := memory{Processes: len(processes)}
	for _, p := range processes {
		made, err := p.read()
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
	after, err := readMachineTime(proc)
	if err != nil {
		return f, err
	}
	f.setShares(before, after)
	return f, nil
}

// limitProcess is a process that measures the limit. It begins at the end of its
// standard input.
type limitProcess struct {
	cmd     *exec.Cmd
	stdin   io.Closer
	results *json.Decoder
	stderr  bytes.Buffer
}

func startLimitProcess(ctx context.Context, job limitJob) (*limitProcess, error) {
	argument, err := json.Marshal(job)
	if err != nil {
		return nil, err
	}
	p := &limitProcess{cmd: exec.CommandContext(ctx, "/proc/self/exe", limitCommand, string(argument))}
	p.cmd.Env = []string{}
	if !job.Govips { // the settings of photo-processor-render for the C library's allocator
		p.cmd.Env = renderer.Environment()
	}
	p.cmd.Stderr = &p.stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	output, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.results = json.NewDecoder(output)
	return p, p.cmd.Start()
}

// read waits for the next line. If the process fails instead, the error has its
// standard error.
func (p *limitProcess) read() (result limitResult, err error) {
	if err = p.results.Decode(&result); err != nil {
		err = fmt.Errorf("%w\n%s", errors.Join(err, p.cmd.Wait()), p.stderr.Bytes())
	}
	return result, err
}

// runLimit is the main function of such a process.
func runLimit(argument string, in io.Reader, out io.Writer) error {
	var job limitJob
	if err := json.Unmarshal([]byte(argument), &job); err != nil {
		return err
	}
	makeThumbnails := makeAsRenderer
	if job.Govips {
		makeThumbnails = makeWithGovips
	}
	sources := make([][]byte, len(job.Paths))
	var bytesOfSources uint64
	for i, path := range job.Paths {
		var err error
		if sources[i], err = mapFile(path); err != nil {
			return err
		}
		bytesOfSources += uint64(len(sources[i]))
	}
	if err := thumbnail.Startup(); err != nil {
		return err
	}
	makeAll := func(times int) error {
		for range times {
			for i, source := range sources {
				if err := makeThumbnails(source, job.Boxes); err != nil {
					return fmt.Errorf("%s: %w", job.Paths[i], err)
				}
			}
		}
		return nil
	}
	// Warm up: libvips loads its modules at the first use.
	if err := makeAll(1); err != nil {
		return err
	}
	results := json.NewEncoder(out)
	if err := results.Encode(limitResult{Photos: len(sources)}); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return err
	}
	cpu := ownCPU()
	if err := makeAll(job.Times); err != nil {
		return err
	}
	cpu = ownCPU() - cpu
	self, err := procfs.Self()
	if err != nil {
		return err
	}
	status, err := self.NewStatus()
	if err != nil {
		return err
	}
	return results.Encode(limitResult{Photos: job.Times * len(sources), CPU: cpu, Memory: status.VmHWM - bytesOfSources})
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
