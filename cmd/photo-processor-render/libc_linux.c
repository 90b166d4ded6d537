/*
 * Four measures that must be in place before Go code runs.
 *
 * When the kernel refuses memory, the process exits with a code of its own at
 * the call that asked for it. libvips and its codecs handle a NULL in different
 * ways: they call the picture corrupt, abort, or continue and crash. None of
 * these can be distinguished from a defect, and the last makes a memory limit
 * exploitable. The functions below replace the C library's in all shared
 * libraries, because the program's symbols take precedence.
 *
 * Descriptors that the worker inherited without knowing, for example from a
 * shell or a service manager, are closed.
 *
 * Freed memory that may hold parts of a picture is cleared, because a later
 * picture may take over the process. Smaller blocks, such as single rows of
 * pixels, are soon reused; to clear them, too, costs 3 to 5 % of the CPU.
 *
 * Codecs count the CPUs of their own thread by its ID. The sandbox allows that
 * only for ID 0, the caller, because it cannot distinguish the IDs of this
 * process from the IDs of other processes.
 */
#define _GNU_SOURCE
#include <features.h>

#ifdef __GLIBC__
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXIT_OUT_OF_MEMORY 121 /* protocol.ExitOutOfMemory */

#define CLEARED (64UL << 10)  /* bytes of the smallest block that is cleared */
#define UNMAPPED (32UL << 20) /* the kernel takes larger ones; MALLOC_MMAP_THRESHOLD_ */

extern void __libc_free(void *memory);
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static inline void *checked(void *memory)
{
	if (__builtin_expect(memory == NULL, 0) && errno == ENOMEM)
		_exit(EXIT_OUT_OF_MEMORY);
	return memory;
}

void *malloc(size_t size) { return checked(__libc_malloc(size)); }
void *calloc(size_t count, size_t size) { return checked(__libc_calloc(count, size)); }
void *memalign(size_t alignment, size_t size) { return checked(__libc_memalign(alignment, size)); }
void *aligned_alloc(size_t alignment, size_t size) { return checked(__libc_memalign(alignment, size)); }

static inline int must_clear(size_t size) { return size >= CLEARED && size < UNMAPPED; }

void free(void *memory)
{
	if (memory != NULL) {
		size_t size = malloc_usable_size(memory);
		if (must_clear(size))
			explicit_bzero(memory, size);
	}
	__libc_free(memory);
}

void *realloc(void *old, size_t size)
{
	if (size == 0 || old == NULL) {
		free(old);
		return size == 0 && old != NULL ? NULL : malloc(size);
	}
	size_t before = malloc_usable_size(old);
	if (!must_clear(before) || (size <= before && size >= before / 2))
		return checked(__libc_realloc(old, size));
	/* The C library's realloc would leave the old content behind. */
	void *new = malloc(size);
	memcpy(new, old, before < size ? before : size);
	free(old);
	return new;
}

void *reallocarray(void *old, size_t count, size_t size)
{
	size_t total;
	if (__builtin_mul_overflow(count, size, &total))
		_exit(EXIT_OUT_OF_MEMORY);
	return realloc(old, total);
}

int posix_memalign(void **result, size_t alignment, size_t size)
{
	if (alignment % sizeof(void *) != 0 || alignment == 0 || (alignment & (alignment - 1)) != 0)
		return EINVAL;
	*result = checked(__libc_memalign(alignment, size));
	return 0;
}

int pthread_getaffinity_np(pthread_t thread, size_t size, cpu_set_t *cpus)
{
	if (!pthread_equal(thread, pthread_self()))
		return EPERM;
	return sched_getaffinity(0, size, cpus) < 0 ? errno : 0;
}

#ifdef SYS_close_range
__attribute__((constructor)) static void close_inherited(void)
{
	syscall(SYS_close_range, 3, ~0U, 0);
}
#endif

#endif /* __GLIBC__ */
