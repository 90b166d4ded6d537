package samples

import (
	"io"
	"syscall"
	"testing"
	"time"
)

func cpu() time.Duration {
	var r syscall.Rusage
	syscall.Getrusage(0, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
func BenchmarkPic(b *testing.B) {
	t := cpu()
	n := 0
	for b.Loop() {
		Picture(uint64(n), 3000, 2000)
		n++
	}
	b.ReportMetric(float64(cpu()-t)/1e9/float64(n), "cpu-s/op")
	_ = io.Discard
}
