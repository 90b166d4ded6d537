package devstack

import (
	"context"
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

// pollInterval separates two looks at a process that is not our child: the kernel tells nobody but the parent of its exit.
const pollInterval = 20 * time.Millisecond

// processID is a process for good. A number alone is not: it is given out again, after a restart of the machine or in a container
// even soon, and a file with an old number in it would have us stop somebody else's process.
type processID struct {
	pid int

	// mark is what startMark said of the process while it certainly ran.
	mark string
}

// identify returns the identity of a process that runs now.
func identify(pid int) processID { return processID{pid: pid, mark: startMark(pid)} }

// running reports whether this very process still runs. A zombie does not.
func (p processID) running() bool { return p.pid > 0 && p.mark != "" && startMark(p.pid) == p.mark }

// terminate ends the process by sending the signals one after the other, each timeout apart, and SIGKILL at last. It returns once
// the process is gone; nil also when it was from the beginning.
func (p processID) terminate(ctx context.Context, signals []syscall.Signal, timeout time.Duration) error {
	for _, signal := range append(signals[:len(signals):len(signals)], syscall.SIGKILL) {
		if err := p.signal(signal); err != nil {
			return err
		}
		waitCtx, cancel := context.WithTimeout(ctx, timeout)
		err := p.awaitExit(waitCtx)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return errors.New("it does not even end on SIGKILL")
}

// signal does nothing when the process is gone.
func (p processID) signal(signal syscall.Signal) error {
	// Where the system has handles of processes, this one still means the process that running looked at, should it exit now
	// and its number be given to another one.
	process, err := os.FindProcess(p.pid)
	if err != nil || !p.running() {
		return nil
	}
	defer func() { _ = process.Release() }()
	if err := process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

func (p processID) awaitExit(ctx context.Context) error {
	for p.running() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollInterval):
		}
	}
	return nil
}

// writePIDFile writes the number on the first line, for people and shells, and the mark on the second.
func writePIDFile(path string, p processID) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return writeFile(path, fmt.Appendf(nil, "%d\n%s\n", p.pid, p.mark))
}

// readPIDFile returns the zero processID, which is not running, when the file is missing or does not look like one of ours.
func readPIDFile(path string) (processID, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return processID{}, nil
	}
	if err != nil {
		return processID{}, err
	}
	first, rest, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		return processID{}, nil
	}
	return processID{pid: pid, mark: strings.TrimSpace(rest)}, nil
}

// writeFile replaces the file as a whole: a reader sees the old content or the new one, also when we are killed meanwhile.
func writeFile(path string, content []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name())
	}
	return err
}
