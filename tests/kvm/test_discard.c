/*
 * tests/kvm/test_discard.c - guests whose memory is given back while they run: what they read
 * afterwards, whatever backs it. On /dev/kvm the kernel tells its KVM, on the software KVM the
 * block does.
 */
#include "guest.h"

#include "unit/ram_rig.h"

#include "vm/vm.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#define WINDOW UINT64_C(0x200000) /* where huge pages can be mapped as such */

/* A VM with a block of a kind at WINDOW, and a vCPU whose DS begins there. */
struct board {
    struct guest guest;
    struct gm_ram *ram;
    struct gm_region *region;
    volatile uint8_t *bytes;
    pthread_t thread;
    int rc; /* of gm_vcpu_run() */
    atomic_bool is_over;
};

/* Real mode knows no address this high by itself; a segment's base can be set all the same. */
static void reach_window(struct gm_vcpu *vcpu)
{
    struct kvm_sregs sregs;

    assert_int_equal(gm_vcpu_ioctl(vcpu, KVM_GET_SREGS, (uintptr_t)&sregs), 0);
    sregs.ds.base = WINDOW;
    sregs.ds.limit = 0xffff;
    assert_int_equal(gm_vcpu_ioctl(vcpu, KVM_SET_SREGS, (uintptr_t)&sregs), 0);
}

static void board_init(struct board *board, enum rig_kind kind)
{
    struct gm_region_options options = {
        .size = sizeof(options),
        .kind = GM_REGION_RAM,
        .size_bytes = HUGE,
        .addr = WINDOW,
    };

    memset(board, 0, sizeof(*board));
    guest_init(&board->guest, NULL);
    board->ram = rig_new(kind, HUGE);
    board->bytes = gm_ram_hva(board->ram);
    options.ram = board->ram;
    assert_int_equal(gm_region_new(gm_vm_map(board->guest.vm), &options, &board->region, NULL), 0);
    assert_int_equal(gm_region_add(gm_vm_memory_root(board->guest.vm), board->region, NULL), 0);
    reach_window(board->guest.vcpu);
}

static void board_fini(struct board *board)
{
    assert_int_equal(gm_region_del(gm_vm_memory_root(board->guest.vm), board->region, NULL), 0);
    gm_region_put(board->region);
    guest_fini(&board->guest);
    gm_ram_put(board->ram);
}

static void *run_thread(void *opaque)
{
    struct board *board = opaque;

    do {
        board->rc = gm_vcpu_run(board->guest.vcpu);
    } while (board->rc == -EINTR); /* any signal's */
    atomic_store(&board->is_over, true);
    return NULL;
}

/* inc word [0x10]; cmp byte [0], value; jne back; hlt: counts until its flag has the value. */
static void emit_wait_for(struct guest *guest, uint8_t value)
{
    EMIT(guest, 0xff, 0x06, 0x10, 0x00, 0x80, 0x3e, 0x00, 0x00, value, 0x75, 0xf5);
    EMIT_HLT(guest);
}

static void running_guest_reads_what_a_discard_left(void **state)
{
    /* It spins until it reads the fresh byte: one that went on with the old page would spin for ever. */
    (void)state;
    GUEST_NEEDS_KVM();
    for (enum rig_kind kind = 0; kind < RIG_KINDS; kind++) {
        struct board board;
        uint16_t count;

        if (rig_lacks(kind, 1)) {
            continue;
        }
        board_init(&board, kind);
        board.bytes[0] = 0x5a;
        emit_wait_for(&board.guest, rig_fresh_byte(kind, true));
        atomic_store(&board.is_over, false);
        assert_int_equal(pthread_create(&board.thread, NULL, run_thread, &board), 0);
        do {
            assert_false(atomic_load(&board.is_over));
            sched_yield();
            count = __atomic_load_n((volatile uint16_t *)(void *)(board.bytes + 0x10),
                                    __ATOMIC_RELAXED);
        } while (count < 1000 || count > 0x6000); /* it runs; a file's bytes are 0x6666 */
        assert_int_equal(gm_ram_discard(board.ram, 0, gm_ram_page_bytes(board.ram), NULL), 0);
        assert_int_equal(pthread_join(board.thread, NULL), 0);
        assert_int_equal(board.rc, 0);
        board_fini(&board);
    }
    rig_give_huge_back();
}

static void guest_writes_again_after_a_discard(void **state)
{
    /* The page that comes anew is the block's: host and guest see each other's stores. */
    (void)state;
    GUEST_NEEDS_KVM();
    for (enum rig_kind kind = 0; kind < RIG_KINDS; kind++) {
        struct board board;

        if (rig_lacks(kind, 1)) {
            continue;
        }
        board_init(&board, kind);
        EMIT_MOV_AL(&board.guest, 0x21);
        EMIT_STORE_AL(&board.guest, 0x0123);
        EMIT_HLT(&board.guest);
        EMIT_LOAD_AL(&board.guest, 0x0200);
        EMIT_STORE_AL(&board.guest, 0x0300);
        EMIT_MOV_AL(&board.guest, 0x22);
        EMIT_STORE_AL(&board.guest, 0x0123);
        EMIT_HLT(&board.guest);
        assert_int_equal(gm_vcpu_run(board.guest.vcpu), 0);
        assert_int_equal(board.bytes[0x123], 0x21);
        assert_int_equal(gm_ram_discard(board.ram, 0, HUGE, NULL), 0);
        assert_int_equal(board.bytes[0x123], rig_fresh_byte(kind, true));
        board.bytes[0x200] = 0x77;
        assert_int_equal(gm_vcpu_run(board.guest.vcpu), 0);
        assert_int_equal(board.bytes[0x300], 0x77);
        assert_int_equal(board.bytes[0x123], 0x22);
        board_fini(&board);
    }
    rig_give_huge_back();
}

static void discarded_memory_stays_free_until_it_is_touched(void **state)
{
    /* A vCPU that has run there, and does not any more, holds nothing back. */
    (void)state;
    GUEST_NEEDS_KVM();
    for (enum rig_kind kind = 0; kind < RIG_KINDS; kind++) {
        struct board board;

        if (rig_lacks(kind, 1)) {
            continue;
        }
        board_init(&board, kind);
        memset((void *)board.bytes, 0x5a, HUGE);
        EMIT_LOAD_AL(&board.guest, 0x1000);
        EMIT_STORE_AL(&board.guest, 0x2000);
        EMIT_HLT(&board.guest);
        assert_int_equal(gm_vcpu_run(board.guest.vcpu), 0);
        assert_int_equal(gm_ram_discard(board.ram, 0, HUGE, NULL), 0);
        assert_int_equal(rig_held_pages(kind, board.ram), 0);
        board_fini(&board);
    }
    rig_give_huge_back();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(running_guest_reads_what_a_discard_left),
        cmocka_unit_test(guest_writes_again_after_a_discard),
        cmocka_unit_test(discarded_memory_stays_free_until_it_is_touched),
    };

    return GUEST_RUN_ON_BOTH(tests);
}
