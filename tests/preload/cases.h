/*
 * preload/cases.h - what the cases of the program `cases` share. Each runs in a process of its own, under the preloaded library;
 * and on /dev/kvm, where that opens, unless it is about what only the software KVM does. It knows nothing of which it is.
 */
#ifndef PRELOAD_CASES_H
#define PRELOAD_CASES_H

#include <errno.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096u

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s (errno %d, %s)\n", __FILE__, __LINE__, #condition, errno,   \
                    strerror(errno));                                                              \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define CHECK_FAILS(call, error)                                                                   \
    do {                                                                                           \
        errno = 0;                                                                                 \
        CHECK((call) == -1);                                                                       \
        CHECK(errno == (error));                                                                   \
    } while (0)

struct test_case {
    const char *name;
    void (*run)(void);
    bool soft_only; /* the machine's own KVM answers otherwise, or not at all */
};

extern const struct test_case descriptor_cases[];
extern const struct test_case memory_cases[];
extern const struct test_case process_cases[];
extern const struct test_case slot_cases[];
extern const struct test_case thread_cases[];

/*
 * A VM whose vCPUs begin where processors do after a reset, at the end of the first 4 GiB: a page of code is there, and RAM at 0.
 */
struct machine {
    int system;
    int vm;
    int vcpu;
    struct kvm_run *run;
    uint8_t *code; /* at 0xfffff000; the first instruction at 0xff0 of it */
    uint8_t *ram;  /* at 0 */
};
#define RAM_BYTES 0x10000u
#define RUN_BYTES 0x3000u

struct machine machine_new(void);
/* Another vCPU of the same VM. Return: its descriptor. */
int machine_add_vcpu(const struct machine *machine, unsigned id, struct kvm_run **run);
/* Its code: 0x10 bytes at most. */
void machine_set_code(const struct machine *machine, const void *code, size_t size_bytes);
/* Code that writes to port 0x10 for ever: `out 0x10, al; jmp back`. */
void machine_set_port_loop(const struct machine *machine);
/* It stops at an access of that port. */
void expect_port_exit(int vcpu, const struct kvm_run *run);
void machine_free(struct machine *machine);

/* A process that runs @run and exits. Return: as waitpid() has it. */
int in_child(void (*run)(void *opaque), void *opaque);

#endif
