/* A wall clock that jumps two days back and forth, at every look; to be preloaded (ld.so(8)).
 *
 * The monotonic clock stays as it is: nobody can set that one. */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    static int looks;
    int result = (int)syscall(SYS_clock_gettime, clock, time);
    if (clock == CLOCK_REALTIME)
        time->tv_sec += looks++ % 2 ? 86400 : -86400;
    return result;
}
