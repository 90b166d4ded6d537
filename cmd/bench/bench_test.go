package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/procfs"
	"github.com/stretchr/testify/require"
)

// TestMain is a process that measures the limit when TestSmoke starts it.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == limitCommand {
		if err := runLimit(os.Args[2], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestSmoke measures a few small photos, so that the benchmark does not rot.
func TestSmoke(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	built := exec.Command("go", "build", "-o", dir, "../../cmd/photo-processor", "../../cmd/photo-processor-render", "../../cmd/photo-processor-dev")
	output, err := built.CombinedOutput()
	require.NoError(t, err, string(output))
	o := options{
		program: filepath.Join(dir, "photo-processor"), cache: filepath.Join(dir, "photos"),
		batches: []int{12}, stacks: []string{"native"}, boxes: []int{1}, repeats: 1, crossCheck: true,
		recipe: []recipe{
			{kind: baseline, width: 700, height: 500, orientation: 6}, {kind: progressive, width: 500, height: 500},
			{kind: png, width: 500, height: 500}, {kind: webp, width: 500, height: 500},
		},
	}
	r, err := measure(t.Context(), o, io.Discard)
	require.NoError(t, err)
	require.Len(t, r.columns, 2)

	limit, batch := r.columns[0].runs[0], r.columns[1].runs[0]
	require.Positive(t, limit.CPU[limitRole])
	require.Positive(t, limit.Memory[limitRole].Largest)
	require.GreaterOrEqual(t, batch.Photos, 12, "and single ones, if there was time")
	require.Len(t, batch.Completed, 12)
	for _, needed := range []role{renderRole, workerRole, temporalRole} {
		require.Positive(t, batch.CPU[needed], needed)
	}
	for _, running := range roles {
		require.Positive(t, batch.Memory[running].Largest, running)
	}
	require.Contains(t, r.photos, "4 files (1 baseline JPEG, 1 progressive JPEG, 1 PNG, 1 WebP)")
	var shown strings.Builder
	r.write(&shown)
	t.Log(shown.String())

	o.repeats = 2
	c := comparison{other: "abc1234", this: "def5678 + changes"}
	o.otherProgram = o.program
	c.report, err = measure(t.Context(), o, io.Discard)
	require.NoError(t, err)
	require.Len(t, c.columns, 2)
	for _, column := range c.columns {
		require.Len(t, column.runs, 2)
		for _, run := range column.runs {
			require.Len(t, run.Completed, 12)
			require.Positive(t, run.CPU[renderRole])
		}
	}
	shown.Reset()
	c.write(&shown)
	t.Log(shown.String())
}

func TestPhotosAreTheSameEachTime(t *testing.T) {
	t.Parallel()
	small := []recipe{{kind: baseline, width: 300, height: 200}, {kind: progressive, width: 300, height: 200}, {kind: webp, width: 200, height: 300}}
	quiet := func(string, ...any) {}
	first, err := loadPhotos(t.Context(), t.TempDir(), small, quiet)
	require.NoError(t, err)
	cache := t.TempDir()
	again, err := loadPhotos(t.Context(), cache, small, quiet)
	require.NoError(t, err)
	require.Equal(t, first.content, again.content)
	directory := func(set *photoSet) string { return filepath.Base(filepath.Dir(set.paths[0])) }
	require.Equal(t, directory(first), directory(again))

	cached, err := loadPhotos(t.Context(), cache, small, func(format string, args ...any) { t.Errorf(format, args...) })
	require.NoError(t, err)
	require.Equal(t, first.content, cached.content)

	require.NotContains(t, string(first.content[0]), "\xff\xc2", "baseline")
	require.Contains(t, string(first.content[1]), "\xff\xc2", "progressive: its frame has another marker")
	other, err := loadPhotos(t.Context(), cache, small[:2], quiet)
	require.NoError(t, err)
	require.NotEqual(t, directory(cached), directory(other), "another recipe has another place")
}

func TestDefaultPhotos(t *testing.T) {
	t.Parallel()
	pixels, largest := 0, 0
	for _, r := range defaultRecipe {
		pixels += r.width * r.height
		largest = max(largest, r.width*r.height)
		require.GreaterOrEqual(t, max(r.width, r.height), boxSets[3][0].Width, "large enough for each box")
	}
	require.InDelta(t, 6.4e6, pixels/len(defaultRecipe), 0.05e6)
	require.Equal(t, 24_000_000, largest)
	require.Less(t, len(defaultRecipe), 100, "their names are in their order")
}

func TestPercentileAndMedian(t *testing.T) {
	t.Parallel()
	hundred := make([]int64, 100)
	for i := range hundred {
		hundred[len(hundred)-1-i] = int64(i + 1)
	}
	require.EqualValues(t, 50, percentile(hundred, 50))
	require.EqualValues(t, 95, percentile(hundred, 95))
	require.EqualValues(t, 100, percentile(hundred, 100))
	require.EqualValues(t, 7, percentile([]int64{7}, 99))
	require.Zero(t, percentile([]int64(nil), 50))
	require.EqualValues(t, 100, hundred[0], "its argument is left alone")

	require.EqualValues(t, 2, median([]float64{3, 1, 2}))
	require.EqualValues(t, 2.5, median([]float64{4, 1, 2, 3}))
	require.Zero(t, median([]float64(nil)))
}

func TestReadingProc(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
	}
	proc, err := procfs.NewFS(dir)
	require.NoError(t, err)

	write("42/stat", "42 (a (strange) name) S 7 42 42 0 -1 4194304 100 200 0 0 150 50 30 20 20 0 1 0 9999 1000 100 18446744073709551615 "+
		strings.Repeat("0 ", 27))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "43"), 0o755), "a process that has ended since it was listed")
	stats, err := readStats(proc)
	require.NoError(t, err)
	require.Len(t, stats, 1)
	require.Equal(t, 7, stats[42].PPID)
	require.Equal(t, map[role]time.Duration{workerRole: 2 * time.Second, renderRole: 500 * time.Millisecond}, cpuByRole(stats, map[int]role{42: workerRole}))
	write("44/stat", "44 (short) S 7")
	_, err = readStats(proc)
	require.ErrorContains(t, err, "process 44")

	write("42/status", "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nRssAnon:\t     512 kB\nRssFile:\t     256 kB\nRssShmem:\t     128 kB\n")
	write("44/status", "Name:\ty\nVmHWM:\t    4096 kB\nVmRSS:\t    1024 kB\nRssAnon:\t     512 kB\nRssFile:\t      64 kB\nRssShmem:\t     256 kB\n")
	write("45/status", "Name:\tzombie\n")
	require.Equal(t, map[role]memory{
		workerRole: {Processes: 2, Largest: 4 << 20, Sum: (512 + 512 + 256 + 256) << 10},
	}, memoryByRole(proc, map[int]role{42: workerRole, 43: workerRole, 44: workerRole, 45: apiRole, 46: apiRole}))

	write("stat", "cpu  100 10 50 9000 5 3 2 7 0 0\ncpu0 1 2 3\n")
	machine, err := readMachineTime(proc)
	require.NoError(t, err)
	require.Equal(t, 1650*time.Millisecond, machine.busy)
	require.Equal(t, 70*time.Millisecond, machine.withheld)
	require.Positive(t, machine.own)
	write("stat", "cpu nonsense\n")
	_, err = readMachineTime(proc)
	require.Error(t, err)
}

func TestCPUByRole(t *testing.T) {
	t.Parallel()
	second := func(n time.Duration) time.Duration { return n * time.Second }
	stat := func(parent int, cpu, ended uint) procfs.ProcStat { // in seconds
		return procfs.ProcStat{PPID: parent, UTime: 90 * cpu, STime: 10 * cpu, CUTime: int(80 * ended), CSTime: int(20 * ended)}
	}
	all := map[int]procfs.ProcStat{
		1:  stat(0, 1, 100), // photo-processor-dev
		10: stat(1, 2, 0),   // api
		20: stat(1, 3, 4),   // worker; two renderers have ended
		21: stat(20, 5, 0),
		22: stat(20, 6, 0),
		30: stat(1, 7, 8), // postgres
		31: stat(30, 9, 0),
		40: stat(1, 10, 0), // Temporal's server and its UI
		41: stat(1, 11, 0),
		99: stat(0, 1000, 0), // not of the stack
	}
	supervised := map[int]role{1: devRole}
	for pid, name := range map[int]string{10: "api", 20: "worker-1", 30: "postgres", 40: "temporal", 41: "temporal-ui"} {
		r, known := roleOf(name)
		require.True(t, known, name)
		supervised[pid] = r
	}
	require.Equal(t, map[role]time.Duration{
		devRole: second(1), apiRole: second(2), workerRole: second(3), renderRole: second(4 + 5 + 6),
		postgresRole: second(7 + 8 + 9), temporalRole: second(10 + 11),
	}, cpuByRole(all, findMembers(all, supervised)))
	_, known := roleOf("something")
	require.False(t, known)
}

func TestCut(t *testing.T) {
	t.Parallel()
	start := time.Now()
	// A photo each second, and two seconds of CPU for each in the first half,
	// three in the second.
	var completions []time.Duration
	var samples []sample
	cpu := time.Duration(0)
	for i := range 101 {
		at := time.Duration(i) * time.Second
		samples = append(samples, sample{machineTime{at: start.Add(at)}, map[role]time.Duration{workerRole: cpu}})
		if i < 100 {
			completions = append(completions, at+500*time.Millisecond)
		}
		cpu += 2 * time.Second
		if i >= 50 {
			cpu += time.Second
		}
	}
	parts := cut(samples, start, completions)
	require.Len(t, parts, sliceCount)
	require.Equal(t, slice{From: 0, To: 20, Wall: 20 * time.Second, CPU: map[role]time.Duration{workerRole: 40 * time.Second}}, parts[0])
	last := parts[sliceCount-1]
	require.Equal(t, slice{From: 80, To: 100, Wall: 20 * time.Second, CPU: map[role]time.Duration{workerRole: 60 * time.Second}}, last)
}

// example is a report with two runs of each.
func example() *report {
	run := func(seconds, cost time.Duration) figures {
		return figures{
			Photos: 100, Wall: seconds * time.Second,
			CPU:       map[role]time.Duration{renderRole: cost * 100 * time.Millisecond, temporalRole: 1000 * time.Millisecond},
			Memory:    map[role]memory{renderRole: {Processes: 2, Largest: 50 << 20}, postgresRole: {Processes: 9, Sum: 99 << 20}},
			Completed: []time.Duration{time.Second, 2 * time.Second}, Post: time.Second,
		}
	}
	limit := figures{Photos: 100, Wall: 2 * time.Second, CPU: map[role]time.Duration{limitRole: 3 * time.Second}, Memory: map[role]memory{limitRole: {1, 10 << 20, 0}}}
	stack := &column{stack: native, boxes: 1, photos: 100, runs: []figures{run(4, 30), run(6, 50)}}
	stack.runs[0].Slices = []slice{{From: 0, To: 50, Wall: 2 * time.Second, CPU: map[role]time.Duration{workerRole: time.Second}}}
	return &report{columns: []*column{{stack: limitColumn, boxes: 1, photos: 100, runs: []figures{limit, limit}}, stack}}
}

func TestTable(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	example().write(&out)
	for _, want := range []string{
		`\|  limit, 1 box \| +native, 1 box \|`,
		`\*\*photos/s\*\* +\| +\*\*50.0\*\* \| +\*\*20.8\*\*`,         // the median of 25 and 16.7
		`of the limit +\| +100 % \| +42 %`,                            //
		`\*\*CPU ms per photo\*\* +\| +\*\*30.0\*\* \| +\*\*50.0\*\*`, // of 40 and 60
		`– Temporal +\| +– \| +10.0`,                                  //
		`from POST to completed, p50 / p95, s +\| +– \| +1.00 / 2.00`, //
		`POST of one photo meanwhile, p50 / p99, ms +\| +– \| +– \|`,  // there was none
		`– render processes +\| +– \| +2 × 50 `,                       //
		`– PostgreSQL +\| +– \| +99 in 9 processes`,                   //
		`0 to 50 +\| +25.0 \| +20.0 `,                                 // the slice
	} {
		require.Regexp(t, want, out.String())
	}
	width := 0
	for _, line := range strings.Split(out.String(), "\n\n")[0:1] {
		for _, row := range strings.Split(line, "\n") {
			if width == 0 {
				width = len([]rune(row))
			}
			require.Len(t, []rune(row), width, "the columns are aligned")
		}
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"-n 0", "-n 10001", "-stack moon", "-boxes 2", "-boxes x", "-repeat -1", "-boxes ,", "-stack ,", "extra"} {
		err := realMain(context.Background(), strings.Fields(args), io.Discard, io.Discard)
		require.Error(t, err, args)
	}
	for _, args := range []string{"-watchers 1", "-stack native,cluster", "-stack native,native", "-n 1000"} {
		err := realMain(t.Context(), append(strings.Fields(args), "-compare", "HEAD"), io.Discard, io.Discard)
		require.ErrorContains(t, err, "usage: -compare takes one stack", args)
	}
}
