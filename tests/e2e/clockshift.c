/* clockshift.c - LD_PRELOAD: the wall clock as it would be after somebody set it. The offset in nanoseconds is a word in
 * the file $CLOCKSHIFT, which a test maps and writes while the server runs; the machine's clock stays as it is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_SEC INT64_C(1000000000)

static const _Atomic int64_t zero;
static const _Atomic int64_t *offset_ns = &zero;

__attribute__((constructor)) static void map_offset(void)
{
    const char *path = getenv("CLOCKSHIFT");
    const int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    const void *at = mmap(NULL, sizeof *offset_ns, PROT_READ, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED)
        offset_ns = at;
    close(fd);
}

static int64_t shifted_ns(clockid_t clock)
{
    struct timespec now;
    syscall(SYS_clock_gettime, clock, &now);
    return (int64_t)now.tv_sec * NS_PER_SEC + now.tv_nsec + atomic_load(offset_ns);
}

int clock_gettime(clockid_t clock, struct timespec *out)
{
    if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)
        return (int)syscall(SYS_clock_gettime, clock, out);
    const int64_t ns = shifted_ns(clock);
    *out = (struct timespec){(time_t)(ns / NS_PER_SEC), (long)(ns % NS_PER_SEC)};
    return 0;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    (void)zone;
    const int64_t ns = shifted_ns(CLOCK_REALTIME);
    *out = (struct timeval){(time_t)(ns / NS_PER_SEC), (suseconds_t)(ns % NS_PER_SEC / 1000)};
    return 0;
}

time_t time(time_t *out)
{
    const time_t seconds = (time_t)(shifted_ns(CLOCK_REALTIME) / NS_PER_SEC);
    if (out)
        *out = seconds;
    return seconds;
}
