package main

import (
	"fmt"
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

// describe describes the measurement: what was measured, on which machine, the
// given facts, and what could make the figures differ from those of others.
func (r *report) describe(facts ...string) []string {
	var versions []string
	for _, name := range slices.Sorted(maps.Keys(r.versions)) {
		versions = append(versions, name+": "+r.versions[name])
	}
	settings := "all as by default"
	if len(r.settings) > 0 {
		settings = strings.Join(r.settings, " ")
	}
	facts = slices.Concat([]string{
		"Machine: " + r.machine.String(),
		fmt.Sprintf("Versions: %s, libvips %s, %s", runtime.Version(), vips.Version, strings.Join(versions, "; ")),
		"Photos: " + r.photos,
		fmt.Sprintf("Boxes: 1 is %s, 3 are %s", sizesText(boxSets[1]), sizesText(boxSets[3])),
	}, facts, []string{"Settings: " + settings})
	if r.machine.load > busyLoad*float64(runtime.NumCPU()) {
		facts = append(facts, fmt.Sprintf("**The machine was busy before (load %.1f): do not use these figures**", r.machine.load))
	}
	return facts
}

// singlesFact describes the single photos.
var singlesFact = fmt.Sprintf("While a batch was under way, single photos were posted every %s, at most one for %d of the batch; they count as photos", singleInterval, singleShare)

// busyLoad is the load per CPU above which measurements are not reliable.
const busyLoad = 0.25

// machine describes the machine.
type machine struct {
	cpu, kernel string
	memory      uint64
	load        float64 // over one minute, before the start
}

func (m machine) String() string {
	return fmt.Sprintf("%d × %s, %d GiB, Linux %s, load %.2f before", runtime.NumCPU(), m.cpu, m.memory>>30, m.kernel, m.load)
}

// readMachine reads /proc. Missing facts are left out.
func readMachine(proc procfs.FS) (m machine) {
	if cpus, err := proc.CPUInfo(); err == nil && len(cpus) > 0 {
		m.cpu = cpus[0].ModelName
	}
	if info, err := proc.Meminfo(); err == nil && info.MemTotalBytes != nil {
		m.memory = *info.MemTotalBytes
	}
	if load, err := proc.LoadAvg(); err == nil {
		m.load = load.Load1
	}
	var system unix.Utsname
	if err := unix.Uname(&system); err == nil {
		m.kernel = unix.ByteSliceToString(system.Release[:])
	}
	return m
}

// ownSettings are variables that the benchmark sets for its stack.
var ownSettings = []string{"DATA_DIR", "THUMBNAIL_SIZES", "DATABASE_URL", "THUMBNAILS_BUCKET", "API_TOKEN", "RENDERER_PATH", "SOURCE_ALLOW_CIDRS"}

// settings returns the other variables of photo-processor in the environment, which
// apply to the stack.
func settings() (set []string) {
	fields := reflect.TypeFor[config.Config]()
	for i := range fields.NumField() {
		name, _, _ := strings.Cut(fields.Field(i).Tag.Get("env"), ",")
		if value := os.Getenv(name); name != "" && value != "" && !slices.Contains(ownSettings, name) && !slices.Contains(ports, name) {
			set = append(set, name+"="+value)
		}
	}
	return set
}
