/* tests/kvm/guest.c - a machine small enough to write its programs by hand. */
#include "guest.h"

#include "model/require.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* Its thread may have ended instead, of an error. */
#define SPINS_WITHIN_S 30

enum gm_accel guest_accel = GM_ACCEL_KVM;

bool guest_accel_opens(void)
{
    int fd;

    if (guest_accel == GM_ACCEL_SOFT) {
        return true;
    }
    fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (fd != -1) {
        close(fd);
    }
    return fd != -1;
}

int guest_exit_code(int failed_count)
{
    if (failed_count != 0) {
        return 1;
    }
    return guest_accel_opens() ? 0 : 77;
}

static void recorder_add(struct recorder *recorder, const struct record *record)
{
    if (recorder->count < sizeof(recorder->items) / sizeof(recorder->items[0])) {
        recorder->items[recorder->count] = *record;
    }
    recorder->count++;
    if (recorder->on_access != NULL) {
        recorder->on_access(recorder->opaque, record);
    }
}

static enum gm_access recorder_read(void *opaque, uint64_t offset, unsigned size_bytes,
                                    uint64_t *value, struct gm_attrs attrs)
{
    struct recorder *recorder = opaque;

    (void)attrs;
    *value = recorder->next_value;
    recorder->next_value += recorder->step;
    recorder_add(recorder, &(struct record){false, size_bytes, offset, *value});
    return GM_ACCESS_OK;
}

static enum gm_access recorder_write(void *opaque, uint64_t offset, unsigned size_bytes,
                                     uint64_t value, struct gm_attrs attrs)
{
    (void)attrs;
    recorder_add(opaque, &(struct record){true, size_bytes, offset, value});
    return GM_ACCESS_OK;
}

const struct gm_io_ops recorder_ops = {
    .size = sizeof(struct gm_io_ops),
    .read = recorder_read,
    .write = recorder_write,
    .implemented = {.min_bytes = 1, .max_bytes = 8, .unaligned = true},
};

static void make_flat(struct kvm_sregs *sregs, struct kvm_regs *regs)
{
    sregs->cs.base = 0;
    sregs->cs.selector = 0;
    *regs = (struct kvm_regs){.rip = GUEST_CODE, .rflags = 2, .rsp = 0x6ff0};
}

void guest_reset(struct gm_vcpu *vcpu)
{
    struct kvm_sregs sregs;
    struct kvm_regs regs;

    assert_int_equal(gm_vcpu_ioctl(vcpu, KVM_GET_SREGS, (uintptr_t)&sregs), 0);
    make_flat(&sregs, &regs);
    assert_int_equal(gm_vcpu_ioctl(vcpu, KVM_SET_SREGS, (uintptr_t)&sregs), 0);
    assert_int_equal(gm_vcpu_ioctl(vcpu, KVM_SET_REGS, (uintptr_t)&regs), 0);
}

void guest_reset_fd(int vcpu_fd)
{
    struct kvm_sregs sregs;
    struct kvm_regs regs;

    assert_int_equal(ioctl(vcpu_fd, KVM_GET_SREGS, &sregs), 0);
    make_flat(&sregs, &regs);
    assert_int_equal(ioctl(vcpu_fd, KVM_SET_SREGS, &sregs), 0);
    assert_int_equal(ioctl(vcpu_fd, KVM_SET_REGS, &regs), 0);
}

void guest_init_in(struct guest *guest, struct gm_vm *vm)
{
    struct gm_map *map = gm_vm_map(vm);

    memset(guest, 0, sizeof(*guest));
    guest->vm = vm;
    assert_int_equal(gm_ram_new_anon(GUEST_RAM_BYTES, NULL, &guest->ram_block, NULL), 0);
    assert_int_equal(gm_region_new_ram(map, "ram", guest->ram_block, &guest->ram), 0);
    assert_int_equal(
        gm_region_new_mmio(map, "mmio", 0x1000, &recorder_ops, &guest->mmio_seen, &guest->mmio), 0);
    assert_int_equal(
        gm_region_new_mmio(map, "ports", 0x10, &recorder_ops, &guest->ports_seen, &guest->ports),
        0);
    {
        struct gm_txn *txn;

        assert_int_equal(gm_txn_begin(map, &txn), 0);
        assert_int_equal(gm_txn_set_addr(txn, guest->mmio, GUEST_MMIO), 0);
        assert_int_equal(gm_txn_set_addr(txn, guest->ports, GUEST_PORT), 0);
        assert_int_equal(gm_txn_add(txn, gm_vm_memory_root(vm), guest->ram), 0);
        assert_int_equal(gm_txn_add(txn, gm_vm_memory_root(vm), guest->mmio), 0);
        assert_int_equal(gm_txn_add(txn, gm_vm_ports_root(vm), guest->ports), 0);
        assert_int_equal(gm_txn_commit(txn, NULL), 0);
    }
    guest_program(guest);
}

void guest_init(struct guest *guest, const struct gm_vm_options *options)
{
    struct gm_vm_options chosen = {.size = sizeof(chosen)};
    struct gm_diag diag = {0};
    struct gm_vm *vm;

    if (options != NULL) {
        chosen = *options;
    }
    chosen.accel = guest_accel;
    if (gm_vm_open(&chosen, &vm, &diag) != 0) {
        fail_msg("gm_vm_open: %s", diag.text);
    }
    guest_init_in(guest, vm);
    assert_int_equal(gm_vcpu_new(vm, 0, &guest->vcpu, NULL), 0);
    guest_reset(guest->vcpu);
}

void guest_fini(struct guest *guest)
{
    gm_region_put(guest->ram);
    gm_region_put(guest->mmio);
    gm_region_put(guest->ports);
    gm_ram_put(guest->ram_block);
    assert_int_equal(gm_vm_close(guest->vm, NULL), 0);
}

void guest_program(struct guest *guest)
{
    guest->code = (uint8_t *)gm_ram_hva(guest->ram_block) + GUEST_CODE;
    if (guest->vcpu != NULL) {
        guest_reset(guest->vcpu);
    }
}

void guest_emit(struct guest *guest, const void *bytes, size_t count)
{
    memcpy(guest->code, bytes, count);
    guest->code += count;
}

void guest_emit_dirty_page(struct guest *guest, unsigned page)
{
    unsigned segment = page << 8;

    /* mov ax, segment; mov es, ax; mov byte es:[0], 0x5a */
    EMIT(guest, 0xb8, LO(segment), HI(segment), 0x8e, 0xc0, 0x26, 0xc6, 0x06, 0x00, 0x00, 0x5a);
}

void guest_run_to_hlt(struct guest *guest)
{
    int rc = gm_vcpu_run(guest->vcpu);
    const struct kvm_run *run = gm_vcpu_kvm_run(guest->vcpu);

    assert_int_equal(rc, 0);
    assert_int_equal(run->exit_reason, KVM_EXIT_HLT);
}

void guest_wait_spinning(struct guest *guest)
{
    const uint16_t *counter =
        (const uint16_t *)(void *)((uint8_t *)gm_ram_hva(guest->ram_block) + GUEST_COUNTER);
    uint16_t before = __atomic_load_n(counter, __ATOMIC_RELAXED);
    time_t end = time(NULL) + SPINS_WITHIN_S;

    while (__atomic_load_n(counter, __ATOMIC_RELAXED) == before) {
        assert_true(time(NULL) < end);
        sched_yield();
    }
}

static void *run_until_stopped(void *opaque)
{
    struct guest *guest = opaque;

    while (!atomic_load(&guest->is_stopping)) {
        REQUIRE_TRUE(gm_vcpu_run(guest->vcpu) == -EINTR);
    }
    return NULL;
}

void guest_start(struct guest *guest)
{
    atomic_store(&guest->is_stopping, false);
    assert_int_equal(pthread_create(&guest->thread, NULL, run_until_stopped, guest), 0);
}

void guest_stop(struct guest *guest)
{
    atomic_store(&guest->is_stopping, true);
    gm_vcpu_kick(guest->vcpu);
    assert_int_equal(pthread_join(guest->thread, NULL), 0);
}

struct gm_region *guest_add_ram(struct guest *guest, const char *name, uint64_t gpa,
                                uint64_t size_bytes)
{
    struct gm_region_options options = {
        .size = sizeof(options),
        .kind = GM_REGION_RAM,
        .name = name,
        .size_bytes = size_bytes,
        .addr = gpa,
        .priority = 1,
    };
    struct gm_region *region;

    assert_int_equal(gm_ram_new_anon(size_bytes, NULL, &options.ram, NULL), 0);
    assert_int_equal(gm_region_new(gm_vm_map(guest->vm), &options, &region, NULL), 0);
    gm_ram_put(options.ram);
    assert_int_equal(gm_region_add(gm_vm_memory_root(guest->vm), region, NULL), 0);
    return region;
}

uint8_t *guest_bytes(const struct gm_region *region)
{
    return (uint8_t *)gm_ram_hva(gm_region_ram(region)) + gm_region_ram_offset(region);
}

void guest_set_enabled(struct gm_region *region, bool enabled)
{
    assert_int_equal(gm_region_set_enabled(region, enabled, NULL), 0);
}

void guest_set_readonly(struct gm_vm *vm, struct gm_region *region, bool readonly)
{
    struct gm_txn *txn;

    assert_int_equal(gm_txn_begin(gm_vm_map(vm), &txn), 0);
    assert_int_equal(gm_txn_set_readonly(txn, region, readonly), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
}

void guest_set_log(struct gm_vm *vm, struct gm_region *region, unsigned client, bool on)
{
    struct gm_txn *txn;

    assert_int_equal(gm_txn_begin(gm_vm_map(vm), &txn), 0);
    assert_int_equal(gm_txn_set_log(txn, region, client, on), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
}

static int by_gpa(const void *a, const void *b)
{
    const struct gm_slot *left = a;
    const struct gm_slot *right = b;

    return (left->gpa > right->gpa) - (left->gpa < right->gpa);
}

void guest_slots_text(struct gm_vm *vm, char text[static SLOTS_TEXT_BYTES])
{
    struct gm_slot slots[32];
    size_t count = gm_slots_list(gm_vm_slots(vm), slots, 32);
    size_t at = 0;

    assert_true(count <= 32);
    qsort(slots, count, sizeof(slots[0]), by_gpa);
    text[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        const struct gm_slot *slot = &slots[i];

        at += (size_t)snprintf(text + at, SLOTS_TEXT_BYTES - at,
                               "%" PRIx64 "+%" PRIx64 ":%s%s%s:%s+%" PRIx64 " ", slot->gpa,
                               slot->size_bytes, (slot->flags & GM_SLOT_LOG) != 0 ? "l" : "",
                               (slot->flags & GM_SLOT_READONLY) != 0 ? "o" : "",
                               (slot->flags & GM_SLOT_GUEST_MEMFD) != 0 ? "g" : "",
                               gm_region_name(slot->region), slot->offset);
        assert_true(at < SLOTS_TEXT_BYTES);
    }
}
