/*
 * model/trap.h - say where a thread of the test trapped, and end the program. cmocka's own handler ends it
 * silently, with status 255, where the thread is not the test's.
 */
#ifndef MODEL_TRAP_H
#define MODEL_TRAP_H

/* For SIGSEGV, SIGBUS, SIGILL and SIGFPE, from here to the end of the cmocka test that calls it. */
void trap_report(void);

#endif
