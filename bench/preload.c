/*
 * bench/preload.c - what KVM's calls cost a program, and calls that are none of KVM's business while there is a VM. bench/run
 * starts it under `guestmem kvm`, the preloaded library, and as it is, on the machine's /dev/kvm.
 *
 *     slot, port-exit, close, ioctl, unmap
 */
#include "measure.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#define SAMPLES 2001
#define PAGE 4096u

enum {
    SLOT,      /* KVM_SET_USER_MEMORY_REGION: create and delete */
    PORT_EXIT, /* KVM_RUN to an access of a port */
    CLOSE,     /* dup() and close() of an eventfd */
    IOCTL,     /* ioctl(FIONBIO) of an eventfd */
    UNMAP,     /* mmap() and munmap() of a page */
    FIGURES,
};

struct machine {
    int vm;
    int vcpu;
    int event;
    void *memory;
};

static void set_slot(const struct machine *machine, unsigned slot, uint64_t gpa,
                     uint64_t size_bytes)
{
    struct kvm_userspace_memory_region region = {
        .slot = slot,
        .guest_phys_addr = gpa,
        .memory_size = size_bytes,
        .userspace_addr = (uintptr_t)machine->memory,
    };

    need(ioctl(machine->vm, KVM_SET_USER_MEMORY_REGION, &region) == 0,
         "KVM_SET_USER_MEMORY_REGION");
}

/* Its first instruction after a reset, over and over: `out 0x10, al; jmp back`. */
static struct machine machine_new(int system)
{
    struct machine machine = {.vm = ioctl(system, KVM_CREATE_VM, 0), .event = eventfd(0, 0)};

    machine.memory = host_memory(PAGE);
    memcpy((uint8_t *)machine.memory + 0xff0, "\xe6\x10\xeb\xfc", 4);
    set_slot(&machine, 0, 0xfffff000, PAGE);
    machine.vcpu = ioctl(machine.vm, KVM_CREATE_VCPU, 0);
    need(machine.vcpu >= 0, "KVM_CREATE_VCPU");
    return machine;
}

static void once(const struct machine *machine, int figure)
{
    int zero = 0;

    switch (figure) {
    case SLOT:
        set_slot(machine, 1, 0x100000, PAGE);
        set_slot(machine, 1, 0x100000, 0);
        break;
    case PORT_EXIT:
        need(ioctl(machine->vcpu, KVM_RUN, 0) == 0, "KVM_RUN");
        break;
    case CLOSE:
        close(dup(machine->event));
        break;
    case IOCTL:
        need(ioctl(machine->event, FIONBIO, &zero) == 0, "FIONBIO");
        break;
    default:
        munmap(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), PAGE);
    }
}

static double time_call(uint64_t figure, uint64_t unused)
{
    static double samples[SAMPLES];
    static struct machine machine;

    (void)unused;
    if (machine.memory == NULL) {
        int system = open("/dev/kvm", O_RDWR | O_CLOEXEC);

        if (system < 0) {
            return BENCH_ABSENT;
        }
        machine = machine_new(system);
    }
    for (int i = 0; i < SAMPLES; i++) {
        double begin = now_ns();

        once(&machine, (int)figure);
        samples[i] = now_ns() - begin;
    }
    return median(samples, SAMPLES);
}

int main(int argc, char **argv)
{
    static const char *const names[FIGURES] = {"slot", "port-exit", "close", "ioctl", "unmap"};

    for (uint64_t figure = 0; figure < FIGURES; figure++) {
        add_case(names[figure], time_call, figure, 0);
    }
    return serve_cases(argc, argv);
}
