// Package sandbox shuts a process off from everything but its memory, the files
// that it has open and the time of day. There is no way out.
//
// A process enters when it has all it needs and before it reads what strangers
// made. On Linux the sandbox has several walls, and Enter closes those that the
// kernel has; each would do most of the work without the others:
//
//	seccomp       no system calls but those that computing, threads and open
//	              pipes need: no file is opened, no socket, no process started
//	Landlock      no file, no network, no signal to others, whatever the call
//	user          root becomes nobody
//	limits        of memory, descriptors, and of files and core dumps: none
//
// The namespaces without a network, in which there is nobody to call, are its
// parent's to make: see internal/renderer.
package sandbox

// Limits bound what the process may have.
type Limits struct {
	// Memory is in bytes, all of the process's own memory counted, used or
	// reserved for writing. 0 is no limit.
	Memory int64
}
