/* tests/kvm/pages.c - a guest that writes many pages. */
#include "pages.h"

#include <guestmem/soft.h>

#include <errno.h>

#define STRIDE_BYTES (37u * 4096u)
#define DWORD(value)                                                                               \
    (uint8_t)(value), (uint8_t)((value) >> 8), (uint8_t)((value) >> 16), (uint8_t)((value) >> 24)

void pages_add(struct pages *pages)
{
    pages->region = guest_add_ram(&pages->guest, "pages", PAGES_GPA, PAGES_COUNT * 4096u);
    pages->ram = gm_region_ram(pages->region);
}

void pages_reset_vcpu(struct gm_vcpu *vcpu)
{
    struct kvm_sregs sregs;

    guest_reset(vcpu);
    assert_int_equal(gm_vcpu_ioctl(vcpu, KVM_GET_SREGS, (uintptr_t)&sregs), 0);
    sregs.ds.base = 0;
    sregs.ds.selector = 0;
    sregs.ds.limit = UINT32_MAX;
    sregs.ds.g = 1;
    assert_int_equal(gm_vcpu_ioctl(vcpu, KVM_SET_SREGS, (uintptr_t)&sregs), 0);
}

bool pages_init(struct pages *pages, enum pages_log log)
{
    const struct gm_soft_options buffer = {.size = sizeof(buffer), .log = GM_SOFT_LOG_BUFFER};
    struct gm_vm_options options = {
        .size = sizeof(options),
        .accel = guest_accel,
        .soft = log == PAGES_LOG_BUFFER_AND_RING ? &buffer : NULL,
        .no_manual_protect = log == PAGES_LOG_PLAIN,
        .dirty_ring_entries = log >= PAGES_LOG_RING ? PAGES_RING_ENTRIES : 0,
    };
    struct gm_diag diag = {0};
    struct gm_vm *vm;
    int rc = gm_vm_open(&options, &vm, &diag);

    if (rc == -EOPNOTSUPP && log == PAGES_LOG_RING && guest_accel == GM_ACCEL_KVM) {
        return false;
    }
    if (rc != 0) {
        fail_msg("gm_vm_open: %s", diag.text);
    }
    guest_init_in(&pages->guest, vm);
    pages_add(pages);
    assert_int_equal(gm_vcpu_new(vm, 0, &pages->guest.vcpu, NULL), 0);
    pages_reset_vcpu(pages->guest.vcpu);
    return true;
}

void pages_fini(struct pages *pages)
{
    gm_region_put(pages->region);
    guest_fini(&pages->guest);
}

void pages_program(struct pages *pages, uint32_t count)
{
    struct guest *guest = &pages->guest;

    guest->code = (uint8_t *)gm_ram_hva(guest->ram_block) + GUEST_CODE;
    EMIT(guest, 0x66, 0xbf, DWORD(0));                             /* mov edi, 0 */
    EMIT(guest, 0x66, 0xbb, DWORD(0));                             /* mov ebx, 0 */
    EMIT(guest, 0x66, 0xb9, DWORD(count));                         /* mov ecx, count */
    EMIT(guest, 0x66, 0x43);                                       /* again: inc ebx */
    EMIT(guest, 0x66, 0x81, 0xc7, DWORD(STRIDE_BYTES));            /* add edi, stride */
    EMIT(guest, 0x66, 0x81, 0xe7, DWORD(PAGES_COUNT * 4096u - 1)); /* and edi, mask */
    EMIT(guest, 0x67, 0x66, 0x89, 0x9f, DWORD(PAGES_GPA));         /* mov [edi + pages], ebx */
    EMIT(guest, 0x66, 0x49);                                       /* dec ecx */
    EMIT(guest, 0x75, 0xe4);                                       /* jnz again */
    EMIT_HLT(guest);
    pages_reset_vcpu(guest->vcpu);
}
