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

// cpu is the CPU time that the processes have used: this one, or its children that
// have ended.
func cpu(b *testing.B, who int) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(who, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkSandbox renders a photo of six megapixels in this process and in the
// sandbox, in turns, so that both have the same machine. It reports the CPU time of
// each photo: for the sandbox that of both processes, the start included, which is
// once in 500 photos.
func BenchmarkSandbox(b *testing.B) {
	var source bytes.Buffer
	require.NoError(b, samples.JPEG(&source, 7, 3000, 2000, 88, 1))
	options := renderer.Options{Boxes: []photo.Size{{Width: 320, Height: 320}}}
	r := renderertest.New(b, renderer.Config{Options: options})

	var within, sandboxed time.Duration
	photos := 0
	measure := func(total *time.Duration, render func() error) {
		before := cpu(b, syscall.RUSAGE_SELF)
		require.NoError(b, render())
		*total += cpu(b, syscall.RUSAGE_SELF) - before
	}
	for b.Loop() {
		photos++
		measure(&within, func() error {
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
	r.Close() // then it counts
	sandboxed += cpu(b, syscall.RUSAGE_CHILDREN) - children

	milliseconds := func(d time.Duration) float64 { return d.Seconds() * 1000 / float64(photos) }
	b.ReportMetric(milliseconds(within), "in-process-cpu-ms/photo")
	b.ReportMetric(milliseconds(sandboxed), "sandboxed-cpu-ms/photo")
	b.ReportMetric(milliseconds(worker), "of-it-worker-cpu-ms/photo")
	b.ReportMetric(100*(float64(sandboxed)/float64(within)-1), "%more-cpu")
}
