package renderer_test

import (
	"bytes"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/renderer"
	"github.com/photo-processor/photo-processor/internal/renderer/renderertest"
	"github.com/photo-processor/photo-processor/internal/samples"
	"github.com/photo-processor/photo-processor/internal/thumbnail"
)

// cpu returns the CPU time of this process or of its exited children.
func cpu(b *testing.B, who int) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(who, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkSandbox renders a photo of 6 megapixels alternately in this process
// and in the sandbox, so that the machine's load affects both alike. It reports
// the CPU time per photo; the sandbox's includes both processes and the start
// of one, once in 500 photos.
func BenchmarkSandbox(b *testing.B) {
	var source bytes.Buffer
	require.NoError(b, samples.WriteJPEG(&source, 7, 3000, 2000, 88, 1))
	options := renderer.Options{Boxes: []photo.Box{{Width: 320, Height: 320}}}
	r := renderertest.New(b, renderer.Config{Options: options})

	var inProcess, sandboxed time.Duration
	photos := 0
	measure := func(total *time.Duration, render func() error) {
		before := cpu(b, syscall.RUSAGE_SELF)
		require.NoError(b, render())
		*total += cpu(b, syscall.RUSAGE_SELF) - before
	}
	for b.Loop() {
		photos++
		measure(&inProcess, func() error {
			_, err := thumbnail.Make(source.Bytes(), thumbnail.Options(options))
			return err
		})
		measure(&sandboxed, func() error {
			_, err := r.Render(b.Context(), renderer.Bytes(source.Bytes()))
			return err
		})
	}
	worker := sandboxed
	children := cpu(b, syscall.RUSAGE_CHILDREN)
	r.Close() // an exited child's CPU time counts
	sandboxed += cpu(b, syscall.RUSAGE_CHILDREN) - children

	milliseconds := func(d time.Duration) float64 { return d.Seconds() * 1000 / float64(photos) }
	b.ReportMetric(milliseconds(inProcess), "in-process-cpu-ms/photo")
	b.ReportMetric(milliseconds(sandboxed), "sandboxed-cpu-ms/photo")
	b.ReportMetric(milliseconds(worker), "worker-cpu-ms/photo")
	b.ReportMetric(100*(float64(sandboxed)/float64(inProcess)-1), "%more-cpu")
}
