/*
 * guest/machine.h - the machine that the compiled guest runs on: memory that two mappings show, in two slots, and one or
 * two vCPUs, each on a thread of its own, by the ioctls of KVM: of the software one, or of /dev/kvm.
 */
#ifndef GUEST_MACHINE_H
#define GUEST_MACHINE_H

#include "guest/abi.h"

#include <guestmem/soft_ioctl.h>

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#define MACHINE_SLOTS 2u
#define MACHINE_SLOT_BYTES (GUEST_RAM_BYTES / MACHINE_SLOTS)

struct machine_options {
    bool is_kvm; /* /dev/kvm, else the software KVM */
    struct gm_soft_options soft;
    uint64_t cpus;
    uint64_t features; /* FEATURE_* */
    uint64_t rounds, repeats;
    uint32_t slot_flags;        /* KVM_MEM_LOG_DIRTY_PAGES */
    const char *kernel, *image; /* paths of files */
};

struct machine;
struct machine_cpu {
    struct machine *machine;
    uint64_t number;
    struct gm_soft_vcpu *soft;
    int fd; /* of /dev/kvm's */
    struct kvm_run *run;
    pthread_t thread;
    uint64_t end;   /* that the guest has said on GUEST_PORT_END, or UINT64_MAX */
    double seconds; /* of the thread's processor time */
};

struct machine {
    struct machine_options options;
    struct gm_soft *soft;
    int kvm_fd, vm_fd;
    size_t run_bytes;
    int file;           /* the memory */
    uint8_t *memory[2]; /* the same, mapped twice; the guest has been loaded through the first */
    struct machine_cpu cpus[GUEST_CPUS];
    char text[256]; /* that the guest has said */
    size_t text_bytes;
};

bool machine_kvm_opens(void);
/* What fails there fails the test. */
void machine_open(struct machine *machine, const struct machine_options *options);
void machine_close(struct machine *machine);
/* Begin to run all vCPUs; wait until all have ended. In between their threads run. */
void machine_start(struct machine *machine);
void machine_wait(struct machine *machine);
/* Set a slot: memory that one of the mappings shows. */
void machine_set_slot(struct machine *machine, unsigned slot, unsigned mapping, uint32_t flags);
/* That a vCPU of the software KVM's has completed. Context: it does not run. */
uint64_t machine_instructions(const struct machine_cpu *cpu);
long machine_ioctl(struct machine *machine, unsigned long request, void *argument);

const struct guest_board *machine_board(const struct machine *machine);

#endif
