package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
)

// role is the part of the stack to which a process belongs, as the table names it.
type role string

const (
	limitRole    role = "limit"
	apiRole      role = "API"
	workerRole   role = "worker"
	renderRole   role = "render processes"
	temporalRole role = "Temporal"
	postgresRole role = "PostgreSQL"
	devRole      role = "`photo-processor-dev`" // which starts the others
)

// roles, in the order of the table.
var roles = []role{renderRole, workerRole, apiRole, temporalRole, postgresRole, devRole}

// roleOf returns the role of a supervised process, by its name.
func roleOf(name string) (role, bool) {
	kind, _, _ := strings.Cut(name, "-")
	r, known := map[string]role{"api": apiRole, "worker": workerRole, "temporal": temporalRole, "postgres": postgresRole}[kind]
	return r, known
}

// tick is the unit of CPU time in /proc, on all architectures of Go.
const tick = 10 * time.Millisecond

// readStats reads the state of all processes, by PID.
func readStats(proc procfs.FS) (map[int]procfs.ProcStat, error) {
	processes, err := proc.AllProcs()
	if err != nil {
		return nil, err
	}
	stats := map[int]procfs.ProcStat{}
	for _, process := range processes {
		stat, err := process.Stat()
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			return nil, fmt.Errorf("process %d: %w", process.PID, err)
		}
		stats[process.PID] = stat
	}
	return stats, nil
}

// findMembers returns the roles of the stack's processes, by PID: of the supervised
// processes and their descendants. Children of a worker are render processes.
func findMembers(stats map[int]procfs.ProcStat, supervised map[int]role) map[int]role {
	children := map[int][]int{}
	for pid, stat := range stats {
		children[stat.PPID] = append(children[stat.PPID], pid)
	}
	members := map[int]role{}
	var add func(pid int, r role)
	add = func(pid int, r role) {
		members[pid] = r
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
	return members
}

// cpuByRole returns the CPU time that the stack has used so far. Parents have the
// CPU time of exited children: replaced render processes, PostgreSQL's backends.
func cpuByRole(stats map[int]procfs.ProcStat, members map[int]role) map[role]time.Duration {
	cpu := map[role]time.Duration{}
	for pid, r := range members {
		stat := stats[pid]
		cpu[r] += time.Duration(stat.UTime+stat.STime) * tick
		ended := time.Duration(stat.CUTime+stat.CSTime) * tick
		switch r {
		case workerRole:
			cpu[renderRole] += ended
		case devRole: // what has ended was part of the start
		default:
			cpu[r] += ended
		}
	}
	return cpu
}

// memory is the memory of the processes of a role, in bytes.
type memory struct {
	Processes int
	Largest   uint64 // the peak of the process with the most
	Sum       uint64 // of them all; what they share is counted once
}

// memoryByRole returns the present memory of the stack. Largest is exact, because
// the kernel records each process's peak.
func memoryByRole(proc procfs.FS, members map[int]role) map[role]memory {
	statuses := map[role][]procfs.ProcStatus{}
	for pid, r := range members {
		process, err := proc.Proc(pid)
		if err != nil {
			continue // it has ended
		}
		if status, err := process.NewStatus(); err == nil && status.VmHWM > 0 {
			statuses[r] = append(statuses[r], status)
		}
	}
	byRole := map[role]memory{}
	for r, ofRole := range statuses {
		m := memory{Processes: len(ofRole)}
		var anonymous, file, shared uint64
		for _, status := range ofRole {
			m.Largest = max(m.Largest, status.VmHWM)
			anonymous += status.RssAnon
			file = max(file, status.RssFile)
			shared = max(shared, status.RssShmem)
		}
		m.Sum = anonymous + file + shared
		byRole[r] = m
	}
	return byRole
}

// raisePeaks raises the peaks to the present values.
func raisePeaks(peaks, now map[role]memory) {
	for r, m := range now {
		p := peaks[r]
		peaks[r] = memory{max(p.Processes, m.Processes), max(p.Largest, m.Largest), max(p.Sum, m.Sum)}
	}
}

// machineTime is the CPU time that the machine has used since it was started.
type machineTime struct {
	at       time.Time
	busy     time.Duration // of all processes
	withheld time.Duration // stolen by the hypervisor
	own      time.Duration // of this process
}

func readMachineTime(proc procfs.FS) (machineTime, error) {
	stat, err := proc.Stat()
	if err != nil {
		return machineTime{}, err
	}
	duration := func(seconds float64) time.Duration {
		return time.Duration(seconds * float64(time.Second)).Round(tick)
	}
	cpu := stat.CPUTotal
	return machineTime{
		at:       time.Now(),
		busy:     duration(cpu.User + cpu.Nice + cpu.System + cpu.IRQ + cpu.SoftIRQ),
		withheld: duration(cpu.Steal),
		own:      ownCPU(),
	}, nil
}

// ownCPU returns the CPU time that this process has used. Its precision is better
// than that of /proc.
func ownCPU() time.Duration {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage) // cannot fail
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
