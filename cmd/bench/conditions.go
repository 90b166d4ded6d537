package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"

	"github.com/davidbyttow/govips/v2/vips"
	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/photo-processor/photo-processor/internal/config"
)

// writeFacts writes a list: what was measured, on which machine, the given facts, and
// what could make the figures differ from those of others.
func (r *report) writeFacts(w io.Writer, facts []string) {
	var versions []string
	for _, name := range slices.Sorted(maps.Keys(r.versions)) {
		versions = append(versions, name+": "+r.versions[name])
	}
	facts = slices.Concat([]string{
		"Machine: " + r.machine,
		fmt.Sprintf("Versions: %s, libvips %s, %s", runtime.Version(), vips.Version, strings.Join(versions, "; ")),
		"Photos: " + r.photos,
		fmt.Sprintf("Boxes: 1 is %s, 3 are %s", sizesText(boxSets[1]), sizesText(boxSets[3])),
	}, facts, []string{"Settings: " + cmp.Or(strings.Join(r.settings, " "), "all as by default")})
	if r.load > busyLoad*float64(runtime.NumCPU()) {
		facts = append(facts, fmt.Sprintf("**The machine was busy before (load %.1f): do not use these figures**", r.load))
	}
	for _, fact := range facts {
		fmt.Fprintln(w, "*", fact)
	}
}

// singlesFact describes the single photos.
var singlesFact = fmt.Sprintf("While a batch was under way, single photos were posted every %s, at most one for %d of the batch; they count as photos", singleInterval, singleShare)

// busyLoad is the load per CPU above which measurements are not reliable.
const busyLoad = 0.25

// describeMachine reads /proc. Missing facts are left out. The load is the one of the
// last minute.
func describeMachine(proc procfs.FS) (text string, load float64) {
	var cpu, kernel string
	var memory uint64
	if cpus, err := proc.CPUInfo(); err == nil && len(cpus) > 0 {
		cpu = cpus[0].ModelName
	}
	if info, err := proc.Meminfo(); err == nil && info.MemTotalBytes != nil {
		memory = *info.MemTotalBytes
	}
	if average, err := proc.LoadAvg(); err == nil {
		load = average.Load1
	}
	var system unix.Utsname
	if err := unix.Uname(&system); err == nil {
		kernel = unix.ByteSliceToString(system.Release[:])
	}
	return fmt.Sprintf("%d × %s, %d GiB, Linux %s, load %.2f before", runtime.NumCPU(), cpu, memory>>30, kernel, load), load
}

// ownSettings are variables that the benchmark sets for its stack.
var ownSettings = []string{"DATA_DIR", "THUMBNAIL_SIZES", "DATABASE_URL", "THUMBNAILS_BUCKET", "API_TOKEN", "RENDERER_PATH", "SOURCE_ALLOW_CIDRS", "HTTP_ADDR"}

// settings returns the other variables of photo-processor in the environment, which
// apply to the stack.
func settings() (set []string) {
	fields := reflect.TypeFor[config.Config]()
	for i := range fields.NumField() {
		name, _, _ := strings.Cut(fields.Field(i).Tag.Get("env"), ",")
		if value := os.Getenv(name); name != "" && value != "" && !slices.Contains(ownSettings, name) {
			set = append(set, name+"="+value)
		}
	}
	return set
}
