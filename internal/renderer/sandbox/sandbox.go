// Package sandbox removes a process's access to everything but its memory, its
// open files and the clock. A process cannot leave the sandbox.
//
// A process enters after it has loaded all that it needs and before it reads
// untrusted input. On Linux the sandbox has several layers. Enter applies those
// that the kernel supports; each would stop most attacks alone:
//
//	seccomp    allows only the system calls of computation, threads and open
//	           pipes: no opening of files, no sockets, no new processes
//	Landlock   denies files, network and signals to other processes, whatever
//	           the system call
//	user       root becomes nobody
//	limits     bound memory and descriptors; no written files, no core dumps
//
// The parent process adds namespaces without a network; see internal/renderer.
package sandbox

// Limits bound the resources of the process.
type Limits struct {
	// Memory limits the private memory of the process in bytes, whether used or
	// only reserved for writing. 0 is no limit.
	Memory int64
}
