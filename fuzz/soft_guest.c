/* fuzz/soft_guest.c - guests and devices that a software VM may well have: see soft_ioctl.h. */
#include "soft_ioctl.h"

#include "model/random.h"
#include "model/require.h"

#include <guestmem/soft_ioctl.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CODE_BYTES 64u

static long vm_ioctl(struct session *session, unsigned long request, const void *argument)
{
    return gm_soft_vm_ioctl(session->soft, request, (uintptr_t)argument);
}

/* ---- the guest ---- */

static void set_segments(struct gm_soft_vcpu *vcpu, uint64_t data_base)
{
    const struct kvm_regs regs = {.rflags = 2, .rsp = 0x800};
    struct kvm_sregs sregs;

    if (gm_soft_vcpu_ioctl(vcpu, KVM_GET_SREGS, (uintptr_t)&sregs) != 0) {
        return;
    }
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    sregs.ds.base = data_base;
    (void)gm_soft_vcpu_ioctl(vcpu, KVM_SET_SREGS, (uintptr_t)&sregs);
    (void)gm_soft_vcpu_ioctl(vcpu, KVM_SET_REGS, (uintptr_t)&regs);
}

static void put_slot(struct session *session, uint32_t slot, uint32_t flags, uint64_t pages)
{
    const struct kvm_userspace_memory_region region = {
        .slot = slot,
        .flags = flags,
        .memory_size = pages * USER_PAGE,
        .userspace_addr = (uintptr_t)session->user.base + USER_GUEST * USER_PAGE,
    };

    (void)vm_ioctl(session, KVM_SET_USER_MEMORY_REGION, &region);
}

void soft_boot(struct session *session)
{
    uint64_t pages = 1 + rnd_take(1) % (USER_PAGES - USER_GUEST);
    uint32_t slot = (uint32_t)rnd_take(1) % 4;

    put_slot(session, slot, (uint32_t)rnd_take(1) % 4, pages);
    if (session->vcpus[0] != NULL) {
        set_segments(session->vcpus[0], 0);
    }
}

/* An instruction of real mode, of those that do something to somebody. */
static unsigned put_instruction(uint8_t *code)
{
    static const uint8_t ports[] = {0x20, 0x21, 0xa0, 0xa1, 0x40, 0x42, 0x43, 0x61, 0xd0, 0x80};
    uint8_t way = (uint8_t)(rnd_take(1) % 12);
    uint16_t value = (uint16_t)rnd_take(1);

    switch (way) {
    case 0: /* MOV AX */
        memcpy(code, (uint8_t[]){0xb8, (uint8_t)value, (uint8_t)rnd_take(1)}, 3);
        return 3;
    case 1: /* OUT, IN */
    case 2:
    case 3:
        memcpy(code, (uint8_t[]){way == 3 ? 0xe4 : 0xe6, ports[value % sizeof(ports)]}, 2);
        return 2;
    case 4: /* MOV DS:offset, EAX, and back */
    case 5:
    case 6:
        value = (uint16_t)(value * 16);
        memcpy(code,
               (uint8_t[]){0x66, way == 6 ? 0xa1 : 0xa3, (uint8_t)value, (uint8_t)(value >> 8)}, 4);
        return 4;
    case 7: /* STI, CLI, HLT, a prefix */
        code[0] = (uint8_t[]){0xfb, 0xfa, 0xf4, 0xf3}[value % 4];
        return 1;
    case 8: /* RDMSR, WRMSR, CPUID, INVD */
        memcpy(code, (uint8_t[]){0x0f, (uint8_t[]){0x32, 0x30, 0xa2, 0x08}[value % 4]}, 2);
        return 2;
    case 9: /* MOV ECX */
        memcpy(code, (uint8_t[]){0x66, 0xb9, (uint8_t)value, (uint8_t)rnd_take(1), 0, 0xc0}, 6);
        return 6;
    case 10: /* REP STOSB, MOVSB to ES:DI */
        memcpy(code, (uint8_t[]){0xf3, value % 2 == 0 ? 0xaa : 0xa4}, 2);
        return 2;
    default:
        code[0] = (uint8_t)value;
        return 1;
    }
}

void soft_program(struct session *session)
{
    static const uint64_t bases[] = {0,          0x2000,     0x8000,     UINT64_C(0xfee00000),
                                     0xfec00000, 0xfee00300, 0x28000 - 8};
    unsigned count = (unsigned)rnd_take(1) % 16;
    uint8_t code[CODE_BYTES + 8] = {0};
    unsigned at = 0;

    while (count-- > 0 && at < CODE_BYTES) {
        at += put_instruction(code + at);
    }
    code[at] = 0xf4;
    user_protect(&session->user, USER_GUEST, 2); /* only grows: nobody has to be told */
    memcpy(session->user.base + USER_GUEST * USER_PAGE, code, sizeof(code));
    put_slot(session, 0, (uint32_t)rnd_take(1) % 2, USER_PAGES - USER_GUEST);
    if (session->vcpus[0] != NULL) {
        set_segments(session->vcpus[0], bases[rnd_take(1) % 7]);
    }
}

/* ---- devices ---- */

static void set_attributes(struct session *session)
{
    static const uint64_t attributes[] = {0, 8, 8, 2, 3, 4, 7, 15};
    const struct kvm_memory_attributes wanted = {
        .address = rnd_take(1) % 64 * USER_PAGE,
        .size = rnd_take(1) % 32 * USER_PAGE,
        .attributes = attributes[rnd_take(1) % 8],
    };

    (void)vm_ioctl(session, KVM_SET_MEMORY_ATTRIBUTES, &wanted);
}

static void create_memfd(struct session *session)
{
    const struct kvm_create_guest_memfd wanted = {.size = rnd_take(1) % 32 * USER_PAGE};

    soft_take_memfd(session, vm_ioctl(session, KVM_CREATE_GUEST_MEMFD, &wanted));
}

static void set_ioeventfd(struct session *session)
{
    static const uint32_t sizes[] = {0, 1, 2, 4, 8};
    const struct kvm_ioeventfd wanted = {
        .addr = rnd_take(1) * 16,
        .len = sizes[rnd_take(1) % 5],
        .fd = session->files[rnd_take(1) % FILES],
        .flags = (uint32_t)rnd_take(1) % 8,
        .datamatch = rnd_take(1) % 4,
    };

    (void)vm_ioctl(session, KVM_IOEVENTFD, &wanted);
}

static void set_irqfd(struct session *session)
{
    const struct kvm_irqfd wanted = {
        .fd = (uint32_t)session->files[rnd_take(1) % FILES],
        .gsi = (uint32_t)rnd_take(1) % 32,
        .flags = (uint32_t)rnd_take(1) % 4,
        .resamplefd = (uint32_t)session->files[rnd_take(1) % FILES],
    };

    (void)vm_ioctl(session, KVM_IRQFD, &wanted);
}

/* Somebody else has the descriptor, too. */
static void signal_file(struct session *session)
{
    const uint64_t count = 1 + rnd_take(1);

    if (write(session->files[rnd_take(1) % FILES], &count, sizeof(count)) < 0) {
        return; /* it is full: nobody reads */
    }
}

static void set_zone(struct session *session)
{
    const struct kvm_coalesced_mmio_zone wanted = {
        .addr = rnd_take(1) * 16,
        .size = (uint32_t)rnd_take(1) * 8,
        .pio = (uint32_t)rnd_take(1) % 3,
    };

    (void)vm_ioctl(
        session, rnd_take(1) % 4 == 0 ? KVM_UNREGISTER_COALESCED_MMIO : KVM_REGISTER_COALESCED_MMIO,
        &wanted);
}

static void raise_line(struct session *session)
{
    struct kvm_irq_level line = {.irq = (uint32_t)rnd_take(1) % 32,
                                 .level = (uint32_t)rnd_take(1) % 2};

    (void)vm_ioctl(session, KVM_IRQ_LINE_STATUS, &line);
}

static void send_message(struct session *session)
{
    const struct kvm_msi message = {
        .address_lo = UINT32_C(0xfee00000) | (uint32_t)rnd_take(2) << 4,
        .data = (uint32_t)rnd_take(2),
    };

    (void)vm_ioctl(session, KVM_SIGNAL_MSI, &message);
}

#define ROUTES_MAX 6u

static void route(struct session *session)
{
    struct kvm_irq_routing *wanted =
        calloc(1, sizeof(*wanted) + ROUTES_MAX * sizeof(wanted->entries[0]));

    REQUIRE(wanted != NULL, "no memory");
    wanted->nr = (uint32_t)rnd_take(1) % (ROUTES_MAX + 1);
    for (unsigned i = 0; i < wanted->nr; i++) {
        wanted->entries[i].gsi = (uint32_t)rnd_take(1) % 32;
        wanted->entries[i].type = (uint32_t)rnd_take(1) % 4;
        wanted->entries[i].u.irqchip.irqchip = (uint32_t)rnd_take(1) % 4;
        wanted->entries[i].u.irqchip.pin = (uint32_t)rnd_take(1) % 32;
        wanted->entries[i].u.msi.data = (uint32_t)rnd_take(2);
    }
    (void)vm_ioctl(session, KVM_SET_GSI_ROUTING, wanted);
    free(wanted);
}

void soft_use_device(struct session *session)
{
    static void (*const ways[])(struct session * session) = {
        set_attributes, create_memfd, set_ioeventfd, set_irqfd, signal_file,
        set_zone,       raise_line,   send_message,  route,
    };

    ways[rnd_take(1) % (sizeof(ways) / sizeof(ways[0]))](session);
}
