/* model/trap.c - the report of a trap: signal, address, place, backtrace. */
#include "model/trap.h"

#include "model/require.h"

#include <execinfo.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define FRAMES_MAX 48

/* Little of this is safe in a signal handler; but the program is lost already. */
static void report(int number, siginfo_t *info, void *context)
{
    void *frames[FRAMES_MAX];
    int count = backtrace(frames, FRAMES_MAX);

    (void)context;
    fprintf(stderr, "[%s] %s, code %d, at address %p, in thread %d:\n", require_place,
            strsignal(number), info->si_code, info->si_addr, gettid());
    fflush(stderr);
    backtrace_symbols_fd(frames, count, STDERR_FILENO);
    /* SA_RESETHAND: the same instruction, or this, ends the program. */
    raise(number);
}

void trap_report(void)
{
    static const int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    struct sigaction action = {.sa_sigaction = report, .sa_flags = SA_SIGINFO | SA_RESETHAND};

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        REQUIRE(sigaction(numbers[i], &action, NULL) == 0, "a handler");
    }
}
