/* fuzz/begin.c - what every input begins with; and time for many inputs. */
#include "fuzz.h"

#include "model/random.h"

#include <poll.h>
#include <time.h>

#define NAP_NS 100000

/*
 * liburcu's thread waits by poll() for 10 ms before it looks for work, and an input that sees regions off would do little else than wait for
 * it. In these programs that is shorter. Nothing else here calls it.
 */
int poll(struct pollfd *files, nfds_t file_count, int timeout_ms)
{
    const struct timespec timeout = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L};

    if (file_count == 0 && timeout_ms > 0) {
        return nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
    }
    return ppoll(files, file_count, timeout_ms >= 0 ? &timeout : NULL, NULL);
}

void fuzz_begin(const uint8_t *data, size_t size)
{
    rnd_input = (struct rnd_input){data, data + size};
}

void fuzz_end(void)
{
    rnd_input = (struct rnd_input){NULL, NULL};
}
