/*
 * Two things that must be in place before the first line of Go.
 *
 * Memory that is refused ends the process, at the call that asked for it.
 * libvips and its codecs each have their own idea of what to do with a NULL:
 * call the picture corrupt, abort, or go on and crash. None of them can be told
 * from a real defect, and the last is how a limit becomes a hole. The exit code
 * can be told from everything. The functions below stand before those of the C
 * library for all shared libraries, because the program's own symbols come
 * first.
 *
 * Descriptors that the worker was given and has never heard of, as from a shell
 * or a supervisor, are closed.
 */
#define _GNU_SOURCE
#include <features.h>

#ifdef __GLIBC__
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXIT_OUT_OF_MEMORY 121 /* protocol.ExitOutOfMemory */

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static inline void *given(void *memory)
{
	if (__builtin_expect(memory == NULL, 0) && errno == ENOMEM)
		_exit(EXIT_OUT_OF_MEMORY);
	return memory;
}

void *malloc(size_t size) { return given(__libc_malloc(size)); }
void *calloc(size_t count, size_t size) { return given(__libc_calloc(count, size)); }
void *memalign(size_t alignment, size_t size) { return given(__libc_memalign(alignment, size)); }
void *aligned_alloc(size_t alignment, size_t size) { return given(__libc_memalign(alignment, size)); }

void *realloc(void *old, size_t size)
{
	/* To nothing is to free, and gives NULL. */
	return size == 0 ? __libc_realloc(old, size) : given(__libc_realloc(old, size));
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
	*result = given(__libc_memalign(alignment, size));
	return 0;
}

#ifdef SYS_close_range
__attribute__((constructor)) static void close_inherited(void)
{
	syscall(SYS_close_range, 3, ~0U, 0);
}
#endif

#endif /* __GLIBC__ */
