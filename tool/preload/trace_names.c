/* preload/trace_names.c - names that the build takes from the system's <linux/kvm.h> (names.py), and exits'. */
#include "preload/trace_names.h"

#include <guestmem/kvm_abi.h>

#include <stddef.h>
#include <sys/ioctl.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct {
    unsigned number;
    unsigned direction;
    const char *name;
} requests[] = {
#define REQUEST(number, direction, name) {number, direction, name},
#define CAPABILITY(number, name)
#include <kvm_names.inc>
#undef REQUEST
#undef CAPABILITY
};

static const struct {
    uint64_t number;
    const char *name;
} capabilities[] = {
#define REQUEST(number, direction, name)
#define CAPABILITY(number, name) {number, name},
#include <kvm_names.inc>
#undef REQUEST
#undef CAPABILITY
};

static const struct {
    uint32_t reason;
    const char *name;
} exits[] = {
    {KVM_EXIT_UNKNOWN, "UNKNOWN"},
    {KVM_EXIT_EXCEPTION, "EXCEPTION"},
    {KVM_EXIT_IO, "IO"},
    {KVM_EXIT_HYPERCALL, "HYPERCALL"},
    {KVM_EXIT_DEBUG, "DEBUG"},
    {KVM_EXIT_HLT, "HLT"},
    {KVM_EXIT_MMIO, "MMIO"},
    {KVM_EXIT_IRQ_WINDOW_OPEN, "IRQ_WINDOW_OPEN"},
    {KVM_EXIT_SHUTDOWN, "SHUTDOWN"},
    {KVM_EXIT_FAIL_ENTRY, "FAIL_ENTRY"},
    {KVM_EXIT_INTR, "INTR"},
    {KVM_EXIT_SET_TPR, "SET_TPR"},
    {KVM_EXIT_TPR_ACCESS, "TPR_ACCESS"},
    {KVM_EXIT_INTERNAL_ERROR, "INTERNAL_ERROR"},
    {KVM_EXIT_SYSTEM_EVENT, "SYSTEM_EVENT"},
    {KVM_EXIT_IOAPIC_EOI, "IOAPIC_EOI"},
    {KVM_EXIT_DIRTY_RING_FULL, "DIRTY_RING_FULL"},
    {KVM_EXIT_X86_RDMSR, "X86_RDMSR"},
    {KVM_EXIT_X86_WRMSR, "X86_WRMSR"},
    {KVM_EXIT_MEMORY_FAULT, "MEMORY_FAULT"},
};

const char *trace_request_name(unsigned request)
{
    for (size_t i = 0; i < COUNT(requests); i++) {
        if (requests[i].number == _IOC_NR(request) && requests[i].direction == _IOC_DIR(request)) {
            return requests[i].name;
        }
    }
    return NULL;
}

const char *trace_capability_name(uint64_t number)
{
    for (size_t i = 0; i < COUNT(capabilities); i++) {
        if (capabilities[i].number == number) {
            return capabilities[i].name;
        }
    }
    return NULL;
}

const char *trace_exit_name(uint32_t reason)
{
    for (size_t i = 0; i < COUNT(exits); i++) {
        if (exits[i].reason == reason) {
            return exits[i].name;
        }
    }
    return NULL;
}
