/* fuzz/soft_user.c - the memory of a user of the software KVM, and the requests: see soft_ioctl.h. */
#include "soft_ioctl.h"

#include "model/random.h"
#include "model/require.h"

#include <guestmem/kvm_abi.h>

#include <string.h>
#include <sys/mman.h>

/* Slots reach this far, before and behind. */
#define AROUND_BYTES (UINT64_C(64) << 30)
#define USER_END (UINT64_C(1) << 47)
#define LOW_END UINT64_C(0x10000) /* nothing is mapped below (mmap_min_addr) */

static uint8_t *reserved;

void user_begin(struct user *user)
{
    if (reserved == NULL) {
        reserved = mmap(NULL, 2 * AROUND_BYTES, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        REQUIRE(reserved != MAP_FAILED, "no addresses");
    }
    user->base = reserved + AROUND_BYTES;
    REQUIRE(mmap(user->base, (size_t)USER_PAGES * USER_PAGE, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED,
            "no memory");
    user_protect(user, USER_READ_ONLY, 1);
    user_protect(user, USER_HOLE, 0);
}

void user_end(struct user *user)
{
    REQUIRE(mprotect(user->base, (size_t)USER_PAGES * USER_PAGE, PROT_NONE) == 0, "the end");
}

void user_protect(struct user *user, unsigned page, unsigned how)
{
    static const int protections[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE};
    uint8_t *at = user->base + (size_t)page * USER_PAGE;

    if (how % 4 == 3) {
        REQUIRE(madvise(at, USER_PAGE, MADV_DONTNEED) == 0, "discarding");
    } else {
        REQUIRE(mprotect(at, USER_PAGE, protections[how % 4]) == 0, "protecting");
    }
}

uint64_t user_some_address(const struct user *user)
{
    uint64_t base = (uintptr_t)user->base;
    uint64_t at = rnd_take(1);

    switch (rnd_take(1) % 16) {
    case 0:
        return at < 128 ? 0 : at;
    case 1: /* the end of what can be written, within a structure */
        return base + USER_READ_ONLY * USER_PAGE - at;
    case 2: /* ... of what can be read */
        return base + USER_HOLE * USER_PAGE - at;
    case 3:
        return base + USER_HOLE * USER_PAGE + at * 16;
    case 4:
        return base - at;
    case 5:
        return USER_END - at % 128 * 8;
    case 6:
        return UINT64_MAX - at;
    case 7:
        return UINT64_C(0xffff800000000000) + (at << 12);
    case 8:
        return UINT64_C(1) << at % 64;
    case 9:
    case 10:
    case 11:
        return base + (USER_GUEST + at % (USER_PAGES - USER_GUEST)) * USER_PAGE;
    default:
        return base + at * 64;
    }
}

static bool is_users(const struct user *user, uint64_t address, uint64_t size_bytes)
{
    uint64_t first = (uintptr_t)user->base - AROUND_BYTES;

    return address >= first && address - first <= 2 * AROUND_BYTES &&
           size_bytes <= 2 * AROUND_BYTES - (address - first);
}

uint64_t user_tame(const struct user *user, uint64_t address, uint64_t size_bytes)
{
    bool is_low = address < LOW_END && size_bytes <= LOW_END - address;

    /* Below the end, and reaching over it: the kernel's own checks are for all of the range. */
    if (is_low || address >= USER_END || is_users(user, address, size_bytes)) {
        return address;
    }
    if (size_bytes > AROUND_BYTES) {
        return USER_END + address % USER_END; /* for no user, whatever the size */
    }
    return (uintptr_t)user->base + address % ((uint64_t)USER_PAGES * USER_PAGE);
}

bool user_is_data(const struct user *user, uint64_t address, uint64_t size_bytes)
{
    uint64_t base = (uintptr_t)user->base;

    return address >= base && address - base <= USER_READ_ONLY * USER_PAGE &&
           size_bytes <= USER_READ_ONLY * USER_PAGE - (address - base);
}

bool user_is_guests(const struct user *user, uint64_t address)
{
    uint64_t base = (uintptr_t)user->base;

    /* A structure that ends there does not begin in the hole: it cannot be read. */
    return address >= base + USER_GUEST * USER_PAGE && address < base + USER_PAGES * USER_PAGE;
}

bool user_is_nowhere(const struct user *user, uint64_t address, uint64_t size_bytes)
{
    uint64_t base = (uintptr_t)user->base;

    return size_bytes != 0 &&
           (address < LOW_END - size_bytes || address >= USER_END ||
            (is_users(user, address, size_bytes) &&
             (address + size_bytes <= base || address >= base + (uint64_t)USER_PAGES * USER_PAGE)));
}

/* ---- requests ---- */

#define MEMBER(type, member) .address_at = offsetof(struct type, member)

#define ON_SYSTEM(name) .number = (name), .level = LEVEL_SYSTEM
#define ON_VM(name) .number = (name), .level = LEVEL_VM
#define ON_VCPU(name) .number = (name), .level = LEVEL_VCPU

static const struct request requests[] = {
    {ON_SYSTEM(KVM_GET_API_VERSION), .takes_number = true},
    {ON_SYSTEM(KVM_CHECK_EXTENSION), .takes_number = true},
    {ON_SYSTEM(KVM_GET_VCPU_MMAP_SIZE), .takes_number = true},
    {ON_SYSTEM(KVM_GET_SUPPORTED_CPUID)},
    {ON_SYSTEM(KVM_GET_EMULATED_CPUID)},
    {ON_SYSTEM(KVM_GET_MSR_INDEX_LIST)},
    {ON_SYSTEM(KVM_GET_MSR_FEATURE_INDEX_LIST)},
    {ON_SYSTEM(KVM_GET_MSRS)},
    {ON_SYSTEM(KVM_X86_GET_MCE_CAP_SUPPORTED)},
    {ON_VM(KVM_CHECK_EXTENSION), .takes_number = true},
    {ON_VM(KVM_ENABLE_CAP)},
    {ON_VM(KVM_SET_USER_MEMORY_REGION), MEMBER(kvm_userspace_memory_region, userspace_addr),
     .size_at = offsetof(struct kvm_userspace_memory_region, memory_size)},
    {ON_VM(KVM_SET_USER_MEMORY_REGION2), MEMBER(kvm_userspace_memory_region2, userspace_addr),
     .size_at = offsetof(struct kvm_userspace_memory_region2, memory_size)},
    {ON_VM(KVM_GET_DIRTY_LOG), MEMBER(kvm_dirty_log, dirty_bitmap)},
    {ON_VM(KVM_CLEAR_DIRTY_LOG), MEMBER(kvm_clear_dirty_log, dirty_bitmap)},
    {ON_VM(KVM_RESET_DIRTY_RINGS), .takes_number = true},
    {ON_VM(KVM_SET_TSS_ADDR), .takes_number = true},
    {ON_VM(KVM_SET_IDENTITY_MAP_ADDR)},
    {ON_VM(KVM_SET_NR_MMU_PAGES), .takes_number = true},
    {ON_VM(KVM_GET_NR_MMU_PAGES), .takes_number = true},
    {ON_VM(KVM_SET_MEMORY_ATTRIBUTES)},
    {ON_VM(KVM_CREATE_GUEST_MEMFD)},
    {ON_VM(KVM_SET_BOOT_CPU_ID), .takes_number = true},
    {ON_VM(KVM_X86_SET_MSR_FILTER), MEMBER(kvm_msr_filter, ranges[0].bitmap)},
    {ON_VM(KVM_GET_CLOCK)},
    {ON_VM(KVM_SET_CLOCK)},
    {ON_VM(KVM_CREATE_IRQCHIP), .takes_number = true},
    {ON_VM(KVM_CREATE_PIT), .takes_number = true},
    {ON_VM(KVM_CREATE_PIT2)},
    {ON_VM(KVM_IRQ_LINE)},
    {ON_VM(KVM_IRQ_LINE_STATUS)},
    {ON_VM(KVM_GET_IRQCHIP)},
    {ON_VM(KVM_SET_IRQCHIP)},
    {ON_VM(KVM_GET_PIT2)},
    {ON_VM(KVM_SET_PIT2)},
    {ON_VM(KVM_SIGNAL_MSI)},
    {ON_VM(KVM_SET_GSI_ROUTING)},
    {ON_VM(KVM_IOEVENTFD)},
    {ON_VM(KVM_IRQFD)},
    {ON_VM(KVM_REGISTER_COALESCED_MMIO)},
    {ON_VM(KVM_UNREGISTER_COALESCED_MMIO)},
    {ON_VCPU(KVM_RUN), .takes_number = true},
    {ON_VCPU(KVM_SET_SIGNAL_MASK)},
    {ON_VCPU(KVM_SET_GUEST_DEBUG)},
    {ON_VCPU(KVM_PRE_FAULT_MEMORY)},
    {ON_VCPU(KVM_TRANSLATE)},
    {ON_VCPU(KVM_GET_REGS)},
    {ON_VCPU(KVM_SET_REGS)},
    {ON_VCPU(KVM_GET_SREGS)},
    {ON_VCPU(KVM_SET_SREGS)},
    {ON_VCPU(KVM_GET_SREGS2)},
    {ON_VCPU(KVM_SET_SREGS2)},
    {ON_VCPU(KVM_GET_FPU)},
    {ON_VCPU(KVM_SET_FPU)},
    {ON_VCPU(KVM_GET_XSAVE)},
    {ON_VCPU(KVM_GET_XSAVE2)},
    {ON_VCPU(KVM_SET_XSAVE)},
    {ON_VCPU(KVM_GET_XCRS)},
    {ON_VCPU(KVM_SET_XCRS)},
    {ON_VCPU(KVM_GET_DEBUGREGS)},
    {ON_VCPU(KVM_SET_DEBUGREGS)},
    {ON_VCPU(KVM_GET_MSRS)},
    {ON_VCPU(KVM_SET_MSRS)},
    {ON_VCPU(KVM_SET_CPUID)},
    {ON_VCPU(KVM_SET_CPUID2)},
    {ON_VCPU(KVM_GET_CPUID2)},
    {ON_VCPU(KVM_GET_VCPU_EVENTS)},
    {ON_VCPU(KVM_SET_VCPU_EVENTS)},
    {ON_VCPU(KVM_INTERRUPT)},
    {ON_VCPU(KVM_NMI), .takes_number = true},
    {ON_VCPU(KVM_GET_MP_STATE)},
    {ON_VCPU(KVM_SET_MP_STATE)},
    {ON_VCPU(KVM_GET_TSC_KHZ), .takes_number = true},
    {ON_VCPU(KVM_SET_TSC_KHZ), .takes_number = true},
    {ON_VCPU(KVM_X86_SETUP_MCE)},
    {ON_VCPU(KVM_X86_SET_MCE)},
    {ON_VCPU(KVM_KVMCLOCK_CTRL), .takes_number = true},
    {ON_VCPU(KVM_GET_LAPIC)},
    {ON_VCPU(KVM_SET_LAPIC)},
    {ON_VCPU(KVM_SET_VAPIC_ADDR)},
};

#define REQUEST_COUNT (sizeof(requests) / sizeof(requests[0]))

const struct request *request_some(enum level level)
{
    size_t first = rnd_take(1) % REQUEST_COUNT;

    for (size_t i = 0; i < REQUEST_COUNT; i++) {
        const struct request *request = &requests[(first + i) % REQUEST_COUNT];

        if (request->level == level) {
            return request;
        }
    }
    return &requests[first];
}

unsigned long request_any_number(void)
{
    return rnd_take(1) % 2 == 0 ? requests[rnd_take(1) % REQUEST_COUNT].number
                                : 0xae00 | (rnd_take(1) & 0xff) | (rnd_take(2) & 0xffff) << 16;
}
