/* model/trap.c - the report of a trap: signal, address, place, backtrace. */
#include "model/trap.h"

#include "model/require.h"

#include <execinfo.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define FRAMES_MAX 48

/* Little of this is safe in a signal handler; but the program is lost already. What is sure comes first: a sanitizer may end the
 * program for the rest of it. */
static void report(int number, siginfo_t *info, void *context)
{
    void *frames[FRAMES_MAX];
    char text[256];
    int length;

    (void)context;
    length = snprintf(text, sizeof(text), "[%s] signal %d, code %d, at address %p, in thread %d:\n",
                      require_place, number, info->si_code, info->si_addr, gettid());
    (void)!write(STDERR_FILENO, text,
                 (size_t)(length < (int)sizeof(text) ? length : (int)sizeof(text) - 1));
    backtrace_symbols_fd(frames, backtrace(frames, FRAMES_MAX), STDERR_FILENO);
    /* SA_RESETHAND: the same instruction, or this, ends the program. */
    raise(number);
}

void trap_report(void)
{
    static const int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    struct sigaction action = {.sa_sigaction = report, .sa_flags = SA_SIGINFO | SA_RESETHAND};
    void *frame;

    (void)backtrace(&frame, 1); /* loads what it needs, by malloc(), the first time */
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        REQUIRE(sigaction(numbers[i], &action, NULL) == 0, "a handler");
    }
}
