package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"slices"
	"strings"

	"github.com/davidbyttow/govips/v2/vips"

	"github.com/photo-processor/photo-processor/internal/config"
)

// conditions describes what was measured, and on which machine.
func (r *report) conditions() []string {
	return []string{
		"Machine: " + r.machine.String(),
		fmt.Sprintf("Versions: %s, libvips %s, %s", runtime.Version(), vips.Version, r.stackVersions()),
		"Photos: " + r.photos,
		fmt.Sprintf("Boxes: 1 is %s, 3 are %s", sizesText(boxSets[1]), sizesText(boxSets[3])),
	}
}

func singlesFact() string {
	return fmt.Sprintf("While a batch was under way, single photos were posted every %s, at most one for %d of the batch; they count as photos", singleInterval, singleShare)
}

// reservations lists the changed settings, and warns of a busy machine.
func (r *report) reservations() []string {
	settings := "all as by default"
	if len(r.settings) > 0 {
		settings = strings.Join(r.settings, " ")
	}
	facts := []string{"Settings: " + settings}
	if r.machine.load > busyLoad*float64(runtime.NumCPU()) {
		facts = append(facts, fmt.Sprintf("**The machine was busy before (load %.1f): do not use these figures**", r.machine.load))
	}
	return facts
}

// addVersions adds the versions of a stack's servers to the report, once.
func (r *report) addVersions(ctx context.Context, name string, s *stack) (err error) {
	if r.versions == nil {
		r.versions = map[string]string{}
	}
	if r.versions[name] == "" {
		r.versions[name], err = s.versions(ctx)
	}
	return err
}

func (r *report) stackVersions() string {
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(r.versions)) {
		texts = append(texts, name+": "+r.versions[name])
	}
	return strings.Join(texts, "; ")
}

// busyLoad is the load per CPU above which measurements are not reliable.
const busyLoad = 0.25

// machine describes the machine.
type machine struct {
	cpu, kernel string
	memory      int64
	load        float64 // over one minute, before the start
}

func (m machine) String() string {
	return fmt.Sprintf("%d × %s, %d GiB, Linux %s, load %.2f before", runtime.NumCPU(), m.cpu, m.memory>>30, m.kernel, m.load)
}

// machineFacts reads /proc. Missing facts are left out.
func machineFacts() (m machine) {
	if content, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(content)) {
			if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
				m.cpu = strings.TrimSpace(value)
				break
			}
		}
	}
	if content, err := os.ReadFile("/proc/meminfo"); err == nil {
		_, _ = fmt.Sscanf(string(content), "MemTotal: %d", &m.memory)
		m.memory <<= 10
	}
	if content, err := os.ReadFile("/proc/loadavg"); err == nil {
		_, _ = fmt.Sscan(string(content), &m.load)
	}
	if output, err := exec.Command("uname", "-r").Output(); err == nil {
		m.kernel = strings.TrimSpace(string(output))
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
