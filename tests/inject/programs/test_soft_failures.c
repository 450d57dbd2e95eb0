/*
 * inject/test_soft_failures.c - what the software KVM can be asked by its own calls, with each call of the library's failed once: slots,
 * lists, logs, faults, KVM_RUN, attributes, a VM with all that it can have. Nothing has changed then, no page is forgotten, and the
 * same call succeeds afterwards.
 */
#include "inject/inject.h"
#include "unit/run_rig.h"

#include <guestmem/soft.h>

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define LOGGED_SLOT 7u
#define LOGGED_GPA UINT64_C(0x200000)
#define LOGGED_PAGES 64u
#define CALLS_MAX 2000
#define TEXT_BYTES 4096

static uint64_t failures[INJECT_KINDS];
static uint64_t stored; /* what the last store stored */
static uint64_t log_seen;

static unsigned count_descriptors(void)
{
    DIR *entries = opendir("/proc/self/fd");
    unsigned count = 0;

    assert_non_null(entries);
    while (readdir(entries) != NULL) {
        count++;
    }
    closedir(entries);
    return count;
}

/* The slots that there are, by guest address, and how many descriptors. */
static void look(struct rig *rig, char text[static TEXT_BYTES])
{
    size_t at = 0;

    for (uint64_t gpa = 0; gpa < UINT64_C(0x400000); gpa += PAGE) {
        struct gm_soft_slot slot;

        if (gm_soft_find(rig->soft, 0, gpa, &slot) && slot.gpa == gpa) {
            at += (size_t)snprintf(text + at, TEXT_BYTES - at, "%u:%" PRIx64 "+%" PRIx64 ":%x ",
                                   slot.slot, slot.gpa, slot.size_bytes, slot.flags);
        }
    }
    snprintf(text + at, TEXT_BYTES - at, "descriptors %u", count_descriptors());
}

static void fail_each(struct rig *rig, const char *name, int (*act)(struct rig *rig),
                      int (*back)(struct rig *rig))
{
    static char before[TEXT_BYTES];
    static char after[TEXT_BYTES];

    for (unsigned kind = 0; kind < INJECT_KINDS; kind++) {
        for (uint64_t nth = 1;; nth++) {
            uint64_t failed;
            int rc;

            assert_true(nth < CALLS_MAX);
            look(rig, before);
            inject_arm(INJECT_BIT(kind), nth, nth);
            rc = act(rig);
            failed = inject_disarm();
            failures[kind] += failed;
            if (rc == 0) {
                assert_int_equal(back(rig), 0);
            } else if (rc > 0 || failed == 0) {
                fail_msg("%s, %s %" PRIu64 ": %d", name, inject_kind_names[kind], nth, rc);
            }
            look(rig, after);
            if (strcmp(before, after) != 0) {
                fail_msg("%s, %s %" PRIu64 ": %d\n  is       %s\n  expected %s", name,
                         inject_kind_names[kind], nth, rc, after, before);
            }
            if (rc == 0 && failed == 0) {
                break;
            }
        }
    }
}

static int nothing(struct rig *rig)
{
    (void)rig;
    return 0;
}

/* ---- slots ---- */

static int slot_create(struct rig *rig)
{
    return (int)rig_set(rig, 9, KVM_MEM_LOG_DIRTY_PAGES, 0x300000, 16 * PAGE, 0);
}

static int slot_delete(struct rig *rig)
{
    return (int)rig_set(rig, 9, 0, 0, 0, 0);
}

static int slot_move(struct rig *rig)
{
    return (int)rig_set(rig, LOGGED_SLOT, KVM_MEM_LOG_DIRTY_PAGES, 0x340000, LOGGED_PAGES * PAGE,
                        0);
}

static int slot_move_back(struct rig *rig)
{
    return (int)rig_set(rig, LOGGED_SLOT, KVM_MEM_LOG_DIRTY_PAGES, LOGGED_GPA, LOGGED_PAGES * PAGE,
                        0);
}

static int list(struct rig *rig)
{
    const gm_hva_t hva = (uintptr_t)rig->memory;
    const struct gm_soft_slot changes[] = {
        {.slot = 10, .gpa = 0x300000, .size_bytes = 4 * PAGE, .hva = hva},
        {.slot = 11, .gpa = 0x310000, .size_bytes = PAGE, .hva = hva},
        {.slot = 10,
         .flags = KVM_MEM_LOG_DIRTY_PAGES,
         .gpa = 0x300000,
         .size_bytes = 4 * PAGE,
         .hva = hva},
        {.slot = 11},
        {.slot = 11, .gpa = 0x304000, .size_bytes = 2 * PAGE, .hva = hva},
    };

    return gm_soft_set_slots(rig->soft, changes, sizeof(changes) / sizeof(changes[0]), NULL);
}

static int list_back(struct rig *rig)
{
    const struct gm_soft_slot changes[] = {{.slot = 10}, {.slot = 11}};

    return gm_soft_set_slots(rig->soft, changes, 2, NULL);
}

/* ---- memory ---- */

/* One word more, where no leaf is. */
static int store(struct rig *rig)
{
    gm_soft_zap_all(rig->soft);
    if (rig_store_as(rig, LOGGED_GPA + 3 * PAGE, 8, stored + 1) != GM_MMU_OK) {
        assert_int_equal(*rig_word(rig, 3 * PAGE), stored); /* not half of it, and not at all */
        return -ENOMEM;
    }
    stored++;
    assert_int_equal(*rig_word(rig, 3 * PAGE), stored);
    return 0;
}

/* What was stored to is in the log that comes next, whatever failed before. */
static int get_log(struct rig *rig)
{
    uint64_t bitmap = 0;
    int rc = (int)rig_get_log(rig, LOGGED_SLOT, &bitmap);

    if (rc == 0) {
        log_seen |= bitmap;
    }
    return rc;
}

static int check_log(struct rig *rig)
{
    assert_true((log_seen & 1u << 3) != 0);
    log_seen = 0;
    return store(rig);
}

static int run_guest(struct rig *rig)
{
    /* mov byte [0x2000], al; hlt */
    static const uint8_t code[] = {0xa2, 0x00, 0x20, 0xf4};
    int rc;

    gm_soft_zap_all(rig->soft);
    run_load(rig, rig->vcpu, code, sizeof(code));
    rig->memory[0x2000] = 0x77;
    rc = (int)run(rig);
    if (rc == 0) {
        assert_int_equal(run_page(rig)->exit_reason, KVM_EXIT_HLT);
        assert_int_equal(rig->memory[0x2000], 0);
    }
    return rc;
}

/* ---- a VM with everything ---- */

static int give_all(struct gm_soft *soft, int fd)
{
    const struct kvm_pit_config pit = {0};
    const struct kvm_irqfd irqfd = {.fd = (uint32_t)fd, .gsi = 5};
    const struct kvm_ioeventfd ioeventfd = {.addr = 0x1000, .len = 4, .fd = fd};
    const struct kvm_coalesced_mmio_zone zone = {.addr = 0x2000, .size = 0x1000};
    const struct {
        unsigned long request;
        const void *argument;
    } calls[] = {
        {KVM_CREATE_IRQCHIP, NULL},
        {KVM_CREATE_PIT2, &pit},
        {KVM_IRQFD, &irqfd},
        {KVM_IOEVENTFD, &ioeventfd},
        {KVM_REGISTER_COALESCED_MMIO, &zone},
        {KVM_SET_TSS_ADDR, (const void *)0xfffbd000ul},
    };
    struct gm_soft_vcpu *vcpu = NULL;
    int rc = 0;

    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]) && rc == 0; i++) {
        rc = (int)gm_soft_vm_ioctl(soft, calls[i].request, (unsigned long)calls[i].argument);
    }
    if (rc == 0) {
        rc = gm_soft_vcpu_new(soft, 0, &vcpu);
    }
    if (rc == 0) {
        gm_soft_vcpu_free(vcpu);
    }
    return rc;
}

static int whole_vm(struct rig *rig)
{
    int fd = eventfd(0, EFD_CLOEXEC);
    struct gm_soft *soft;
    int rc = gm_soft_open(NULL, &soft, NULL);

    (void)rig;
    if (rc == 0) {
        rc = give_all(soft, fd);
        assert_int_equal(gm_soft_close(soft), 0);
    }
    close(fd);
    return rc;
}

/* ---- tests ---- */

static struct rig begin(void)
{
    struct rig rig = run_rig_new(NULL);

    assert_int_equal(
        rig_set(&rig, LOGGED_SLOT, KVM_MEM_LOG_DIRTY_PAGES, LOGGED_GPA, LOGGED_PAGES * PAGE, 0), 0);
    stored = *rig_word(&rig, 3 * PAGE);
    return rig;
}

static void soft_failures_in_slots_change_nothing(void **state)
{
    struct rig rig = begin();

    (void)state;
    fail_each(&rig, "a slot", slot_create, slot_delete);
    assert_int_equal(slot_create(&rig), 0);
    fail_each(&rig, "no slot", slot_delete, slot_create);
    assert_int_equal(slot_delete(&rig), 0);
    fail_each(&rig, "a move", slot_move, slot_move_back);
    fail_each(&rig, "a list", list, list_back);
    rig_free(&rig);
}

static void soft_failures_in_accesses_lose_nothing(void **state)
{
    struct rig rig = begin();

    (void)state;
    fail_each(&rig, "a store", store, nothing);
    log_seen = 0;
    fail_each(&rig, "a log", get_log, check_log);
    fail_each(&rig, "KVM_RUN", run_guest, nothing);
    rig_free(&rig);
}

static void soft_failures_in_making_leave_nothing(void **state)
{
    struct rig rig = begin();

    (void)state;
    fail_each(&rig, "a whole VM", whole_vm, nothing);
    rig_free(&rig);
}

static int say_counts(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < INJECT_KINDS; kind++) {
        print_message("%s %llu ", inject_kind_names[kind], (unsigned long long)failures[kind]);
    }
    print_message("failed\n");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(soft_failures_in_slots_change_nothing),
        cmocka_unit_test(soft_failures_in_accesses_lose_nothing),
        cmocka_unit_test(soft_failures_in_making_leave_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, say_counts);
}
