package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// role is the part of the stack to which a process belongs.
type role string

const (
	limitRole    role = "limit"
	apiRole      role = "api"
	workerRole   role = "worker"
	renderRole   role = "render"
	temporalRole role = "Temporal"
	postgresRole role = "PostgreSQL"
	devRole      role = "photo-processor-dev" // which starts the others
)

// roles, in the order of the table.
var roles = []role{renderRole, workerRole, apiRole, temporalRole, postgresRole, devRole}

// roleOf returns the role of a supervised process, by its name.
func roleOf(name string) (role, bool) {
	for prefix, role := range map[string]role{"api": apiRole, "worker": workerRole, "temporal": temporalRole, "postgres": postgresRole} {
		if name == prefix || strings.HasPrefix(name, prefix+"-") {
			return role, true
		}
	}
	return "", false
}

// tick is the unit of CPU time in /proc, on all architectures of Go.
const tick = 10 * time.Millisecond

// processStat has fields of /proc/<pid>/stat.
type processStat struct {
	parent int
	cpu    time.Duration // its own
	ended  time.Duration // of its children that have ended, and theirs
}

func parseStat(content []byte) (processStat, error) {
	// See proc_pid_stat(5). The second field, the name, is in parentheses and
	// may contain anything.
	fields := bytes.Fields(content[bytes.LastIndexByte(content, ')')+1:])
	const ppid, utime, stime, cutime, cstime = 1, 11, 12, 13, 14
	if len(fields) <= cstime {
		return processStat{}, errors.New("stat has too few fields")
	}
	var values [cstime + 1]int64
	for _, i := range []int{ppid, utime, stime, cutime, cstime} {
		value, err := strconv.ParseInt(string(fields[i]), 10, 64)
		if err != nil {
			return processStat{}, err
		}
		values[i] = value
	}
	return processStat{
		parent: int(values[ppid]),
		cpu:    time.Duration(values[utime]+values[stime]) * tick,
		ended:  time.Duration(values[cutime]+values[cstime]) * tick,
	}, nil
}

// processes lists all running processes.
func processes() (map[int]processStat, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, errors.New("there is no /proc; CPU time and memory are measured on Linux alone")
	}
	all := map[int]processStat{}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			return nil, err
		}
		stat, err := parseStat(content)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return nil, err
		}
		all[pid] = stat
	}
	return all, nil
}

// member is a process of the stack.
type member struct {
	pid  int
	role role
}

// members lists the processes of the stack: the supervised ones and their
// descendants. Children of a worker are render processes.
func members(all map[int]processStat, supervised map[int]role) []member {
	children := map[int][]int{}
	for pid, stat := range all {
		children[stat.parent] = append(children[stat.parent], pid)
	}
	var found []member
	var add func(pid int, r role)
	add = func(pid int, r role) {
		found = append(found, member{pid, r})
		if r == workerRole {
			r = renderRole
		}
		if r == devRole {
			return // its children are supervised, and have roles of their own
		}
		for _, child := range children[pid] {
			add(child, r)
		}
	}
	for pid, r := range supervised {
		add(pid, r)
	}
	return found
}

// cpuByRole returns the CPU time that the stack has used so far. Parents have the
// CPU time of exited children: replaced render processes, PostgreSQL's backends.
func cpuByRole(all map[int]processStat, supervised map[int]role) map[role]time.Duration {
	cpu := map[role]time.Duration{}
	for _, m := range members(all, supervised) {
		stat := all[m.pid]
		cpu[m.role] += stat.cpu
		switch m.role {
		case workerRole:
			cpu[renderRole] += stat.ended
		case devRole: // what has ended was part of the start
		default:
			cpu[m.role] += stat.ended
		}
	}
	return cpu
}

// memory is the memory of the processes of a role, in bytes.
type memory struct {
	Processes int
	Largest   int64 // the peak of the process with the most
	Sum       int64 // of them all; what they share is counted once
}

// processMemory has fields of /proc/<pid>/status, in bytes.
type processMemory struct {
	peak, anonymous, file, shared int64
}

func readMemory(pid int) (processMemory, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return processMemory{}, err
	}
	return parseMemory(content)
}

func parseMemory(content []byte) (m processMemory, err error) {
	fields := map[string]*int64{"VmHWM:": &m.peak, "RssAnon:": &m.anonymous, "RssFile:": &m.file, "RssShmem:": &m.shared}
	lines := bufio.NewScanner(bytes.NewReader(content))
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) < 2 || fields[words[0]] == nil {
			continue
		}
		kilobytes, err := strconv.ParseInt(words[1], 10, 64)
		if err != nil {
			return m, err
		}
		*fields[words[0]] = kilobytes << 10
	}
	return m, lines.Err()
}

// memoryByRole returns the present memory of the stack. Largest is exact, because
// the kernel records each process's peak.
func memoryByRole(found []member) map[role]memory {
	type shares struct{ anonymous, file, shared int64 }
	sums := map[role]shares{}
	byRole := map[role]memory{}
	for _, m := range found {
		status, err := readMemory(m.pid)
		if err != nil || status.peak == 0 {
			continue // it has ended
		}
		r := byRole[m.role]
		r.Processes++
		r.Largest = max(r.Largest, status.peak)
		byRole[m.role] = r
		s := sums[m.role]
		s.anonymous += status.anonymous
		s.file = max(s.file, status.file)
		s.shared = max(s.shared, status.shared)
		sums[m.role] = s
	}
	for name, s := range sums {
		r := byRole[name]
		r.Sum = s.anonymous + s.file + s.shared
		byRole[name] = r
	}
	return byRole
}

// machineTime returns the CPU time that the machine has used, and the time stolen by
// the hypervisor.
type machineTime struct {
	at             time.Time
	busy, withheld time.Duration
}

func machineCPU() (machineTime, error) {
	content, err := os.ReadFile("/proc/stat")
	if err != nil {
		return machineTime{}, fmt.Errorf("CPU time is measured on Linux alone: %w", err)
	}
	m, err := parseMachine(content)
	m.at = time.Now()
	return m, err
}

func parseMachine(content []byte) (m machineTime, err error) {
	first, _, _ := strings.Cut(string(content), "\n")
	fields := strings.Fields(first)
	const user, nice, system, irq, softirq, steal = 1, 2, 3, 6, 7, 8
	if len(fields) <= steal || fields[0] != "cpu" {
		return m, errors.New("/proc/stat does not begin with the CPUs' time")
	}
	for i, total := range map[int]*time.Duration{user: &m.busy, nice: &m.busy, system: &m.busy, irq: &m.busy, softirq: &m.busy, steal: &m.withheld} {
		ticks, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return m, err
		}
		*total += time.Duration(ticks) * tick
	}
	return m, nil
}

// ownCPU returns the CPU time that this process has used.
func ownCPU() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
