/*
 * inject/test_soft_failures.c - what the software KVM can be asked by its own calls, with each call of the library's failed once: slots,
 * lists, logs, faults, KVM_RUN, SMM, private memory, attributes, invalidations, guests' tables, a VM with all that it can have. Nothing has changed then, no page is forgotten, and the
 * same call succeeds afterwards.
 */
#include "inject/inject.h"
#include "base/rcu.h"
#include "kcore/attributes.h"
#include "unit/machine.h"
#include "unit/run_rig.h"
#include "unit/x86_rig.h"

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
#define LOOKED_AT_BYTES UINT64_C(0x400000)
#define MEMFD_SLOT 8u
#define MEMFD_GPA UINT64_C(0x280000)
#define MEMFD_PAGES 16u
#define TSS_GPA UINT64_C(0x380000)
#define IN_SMM 0x10000u
/* The guest's tables, in the first megabyte, and what they map. */
#define PML4 UINT64_C(0x20000)
#define PDPT UINT64_C(0x21000)
#define PD UINT64_C(0x22000)
#define PT UINT64_C(0x23000)
#define DATA UINT64_C(0x40000)
#define CALLS_MAX 2000
#define TEXT_BYTES 4096

static uint64_t failures[INJECT_KINDS];
static enum inject_kind failing; /* now */
static uint64_t stored;          /* what the last store stored */
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

/* The slots that there are, by guest address, in SMM as well; the attributes of the first pages, and how many descriptors. */
static void look(struct rig *rig, char text[static TEXT_BYTES])
{
    size_t at = 0;

    for (uint64_t gpa = 0; gpa < 2 * LOOKED_AT_BYTES; gpa += PAGE) {
        unsigned space = gpa / LOOKED_AT_BYTES;
        uint64_t in_space = gpa % LOOKED_AT_BYTES;
        struct gm_soft_slot slot;

        if (gm_soft_find(rig->soft, space, in_space, &slot) && slot.gpa == in_space) {
            at += (size_t)snprintf(text + at, TEXT_BYTES - at, "%u:%" PRIx64 "+%" PRIx64 ":%x ",
                                   slot.slot, slot.gpa, slot.size_bytes, slot.flags);
        }
    }
    for (uint64_t frame = 0; frame < 16; frame++) {
        at += (size_t)snprintf(
            text + at, TEXT_BYTES - at, "%x",
            (unsigned)kcore_attributes(&rig->soft->core, (struct gfn){MEMFD_GPA / PAGE + frame}));
    }
    snprintf(text + at, TEXT_BYTES - at, " descriptors %u", count_descriptors());
}

static void fail_each(struct rig *rig, const char *name, int (*act)(struct rig *rig),
                      int (*back)(struct rig *rig))
{
    static char before[TEXT_BYTES];
    static char changed[TEXT_BYTES];
    static char after[TEXT_BYTES];

    assert_int_equal(act(rig), 0);
    look(rig, changed);
    assert_int_equal(back(rig), 0);
    for (unsigned kind = 0; kind < INJECT_KINDS; kind++) {
        for (uint64_t nth = 1;; nth++) {
            uint64_t failed;
            int rc;

            assert_true(nth < CALLS_MAX);
            look(rig, before);
            failing = kind;
            inject_arm(INJECT_BIT(kind), nth, nth);
            rc = act(rig);
            failed = inject_disarm();
            failures[kind] += failed;
            if (rc == 0) {
                look(rig, after);
                assert_string_equal(after, changed);
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

/* ---- SMM, the VM's own slots, who is told of slots ---- */

static int smm_create(struct rig *rig)
{
    return (int)rig_set(rig, IN_SMM | 9, 0, 0x300000, 16 * PAGE, 0);
}

static int smm_delete(struct rig *rig)
{
    return (int)rig_set(rig, IN_SMM | 9, 0, 0, 0, 0);
}

static int tss_move(struct rig *rig)
{
    return (int)rig_call_number(rig, KVM_SET_TSS_ADDR, TSS_GPA + 0x8000);
}

static int tss_move_back(struct rig *rig)
{
    return (int)rig_call_number(rig, KVM_SET_TSS_ADDR, TSS_GPA);
}

static unsigned slots_told;

static void on_created(void *opaque, const struct gm_soft_slot *slot)
{
    (void)opaque;
    (void)slot;
    slots_told++;
}

static void on_removing(void *opaque, const struct gm_soft_slot *slot)
{
    (void)opaque;
    (void)slot;
    slots_told--;
}

static int follow(struct rig *rig)
{
    const struct gm_soft_follower_ops ops = {
        .size = sizeof(ops), .created = on_created, .removing = on_removing};
    struct gm_soft_follower *follower;
    int rc;

    slots_told = 0;
    rc = gm_soft_follow(rig->soft, &ops, NULL, &follower);
    assert_true(rc != 0 ? slots_told == 0 : slots_told > 0);
    if (rc == 0) {
        gm_soft_unfollow(follower);
        assert_int_equal(slots_told, 0);
    }
    return rc;
}

/* ---- what is private, and what is forbidden ---- */

static int private_fd;

static int memfd_slot_create(struct rig *rig)
{
    const struct kvm_userspace_memory_region2 region = {
        .slot = MEMFD_SLOT,
        .flags = KVM_MEM_GUEST_MEMFD,
        .guest_phys_addr = MEMFD_GPA,
        .memory_size = MEMFD_PAGES * PAGE,
        .userspace_addr = (uintptr_t)rig->memory,
        .guest_memfd = (uint32_t)private_fd,
    };

    return (int)rig_call(rig, KVM_SET_USER_MEMORY_REGION2, &region);
}

static int memfd_slot_delete(struct rig *rig)
{
    return (int)rig_set(rig, MEMFD_SLOT, 0, 0, 0, 0);
}

static int memfd_make(struct rig *rig)
{
    const struct kvm_create_guest_memfd create = {.size = MEMFD_PAGES * PAGE};
    long fd = rig_call(rig, KVM_CREATE_GUEST_MEMFD, &create);

    if (fd < 0) {
        return (int)fd;
    }
    close((int)fd);
    return 0;
}

static int set_attributes(struct rig *rig, uint64_t page, uint64_t page_count, uint64_t attributes)
{
    const struct kvm_memory_attributes argument = {
        .address = MEMFD_GPA + page * PAGE, .size = page_count * PAGE, .attributes = attributes};

    return (int)rig_call(rig, KVM_SET_MEMORY_ATTRIBUTES, &argument);
}

/* All of a range become something else: it is cut into three. */
static int attributes_cut(struct rig *rig)
{
    return set_attributes(rig, 6, 2, 0);
}

static int attributes_join(struct rig *rig)
{
    return set_attributes(rig, 6, 2, KVM_MEMORY_ATTRIBUTE_PRIVATE);
}

/* Into the file, not to the slot's address. */
static int private_store(struct rig *rig)
{
    uint64_t value = *rig_word(rig, 5 * PAGE);
    uint64_t loaded = 0;

    gm_soft_zap_all(rig->soft);
    if (rig_store_as(rig, MEMFD_GPA + 5 * PAGE, 8, stored + 1) != GM_MMU_OK) {
        return -ENOMEM;
    }
    stored++;
    assert_int_equal(*rig_word(rig, 5 * PAGE), value);
    if (rig_load_as(rig, MEMFD_GPA + 5 * PAGE, 8, &loaded) != GM_MMU_OK) {
        return -ENOMEM;
    }
    assert_int_equal(loaded, stored);
    return 0;
}

/* ---- host memory that goes away, and tracking ---- */

/* The page is other memory afterwards, with what was in it. */
static int invalidate(struct rig *rig)
{
    const gm_hva_t hva = (uintptr_t)rig->memory + 3 * PAGE;
    uint64_t value = 0;

    (void)gm_soft_invalidate_begin(rig->soft, hva, PAGE);
    *rig_word(rig, 3 * PAGE) = ++stored;
    gm_soft_invalidate_end(rig->soft, hva, PAGE);
    if (rig_load_as(rig, LOGGED_GPA + 3 * PAGE, 8, &value) != GM_MMU_OK) {
        return -ENOMEM;
    }
    assert_int_equal(value, stored);
    return 0;
}

static unsigned writes_told;

static void on_written(void *opaque, gm_gpa_t gpa, uint32_t size_bytes)
{
    (void)opaque;
    (void)size_bytes;
    assert_int_equal(gpa, LOGGED_GPA + 3 * PAGE);
    writes_told++;
}

static int track(struct rig *rig)
{
    int rc = gm_soft_track(rig->soft, 0, LOGGED_GPA + 3 * PAGE);

    if (rc == 0) {
        enum gm_mmu_outcome outcome;

        writes_told = 0;
        outcome = rig_store_as(rig, LOGGED_GPA + 3 * PAGE, 8, stored + 1);
        assert_int_equal(writes_told, outcome == GM_MMU_OK);
        stored += outcome == GM_MMU_OK;
        assert_int_equal(*rig_word(rig, 3 * PAGE), stored);
        assert_int_equal(gm_soft_untrack(rig->soft, 0, LOGGED_GPA + 3 * PAGE), 0);
    }
    return rc;
}

/* ---- the guest's own tables ---- */

static void make_tables(struct rig *rig)
{
    *rig_word(rig, PML4) = PDPT | 7;
    *rig_word(rig, PDPT) = PD | 7;
    *rig_word(rig, PD) = PT | 7;
    for (uint64_t page = 0; page < 4; page++) {
        *rig_word(rig, PT + page * 8) = (DATA + page * PAGE) | 7;
    }
}

/* Two pages with one store, by tables that have no accessed flags yet and of which nothing is known. */
static int linear_store(struct rig *rig)
{
    const struct gm_mmu_paging paging = {
        .cr0 = 0x80010001, .cr4 = 0x20, .cr3 = PML4, .efer = 0x500, .maxphyaddr = 46};
    enum gm_mmu_outcome outcome;
    uint64_t before;
    uint64_t seen;

    make_tables(rig);
    gm_soft_zap_all(rig->soft);
    memcpy(&before, rig->memory + DATA + PAGE - 4, sizeof(before));
    outcome = gm_mmu_enter(rig->mmu);
    assert_int_equal(outcome, GM_MMU_OK);
    outcome = gm_mmu_set_paging(rig->mmu, &paging);
    if (outcome == GM_MMU_OK) {
        outcome =
            gm_mmu_store_linear(rig->mmu, PAGE - 4, 8, GM_MMU_SUPERVISOR, before + 0x100000001);
    }
    gm_mmu_leave(rig->mmu);
    memcpy(&seen, rig->memory + DATA + PAGE - 4, sizeof(seen));
    assert_int_equal(seen, outcome == GM_MMU_OK ? before + 0x100000001 : before);
    return outcome == GM_MMU_OK ? 0 : -ENOMEM;
}

/* A table is written, so its shadow goes, and another is needed. */
static int linear_remap(struct rig *rig)
{
    const struct gm_mmu_paging paging = {
        .cr0 = 0x80010001, .cr4 = 0x20, .cr3 = PML4, .efer = 0x500, .maxphyaddr = 46};
    enum gm_mmu_outcome outcome = gm_mmu_enter(rig->mmu);
    uint64_t value = 0;

    assert_int_equal(outcome, GM_MMU_OK);
    outcome = gm_mmu_store(rig->mmu, PT, 8, (DATA + 2 * PAGE) | 7);
    if (outcome == GM_MMU_OK) {
        outcome = gm_mmu_set_paging(rig->mmu, &paging);
    }
    if (outcome == GM_MMU_OK) {
        outcome = gm_mmu_load_linear(rig->mmu, 0, 8, GM_MMU_SUPERVISOR, &value);
    }
    gm_mmu_leave(rig->mmu);
    if (outcome != GM_MMU_OK) {
        return -ENOMEM;
    }
    assert_int_equal(value, *rig_word(rig, DATA + 2 * PAGE));
    return 0;
}

/* The same by KVM_RUN: a guest in 64-bit mode stores to its second page. */
static int run_paged_guest(struct rig *rig)
{
    /* mov [0x1000], rax; hlt */
    static const uint8_t code[] = {0x48, 0x89, 0x04, 0x25, 0x00, 0x10, 0x00, 0x00, 0xf4};
    struct x86_rig as_x86 = {.rig = *rig, .cpu = rig->vcpu->x86};
    uint64_t before = *rig_word(rig, DATA + PAGE);
    int rc;

    make_tables(rig);
    gm_soft_zap_all(rig->soft);
    memcpy(rig->memory + DATA, code, sizeof(code));
    x86_rig_set_mode(&as_x86, 64);
    as_x86.cpu->cr3 = PML4;
    as_x86.cpu->rip = 0;
    as_x86.cpu->gpr[X86_RAX] = before + 1;
    x86_state_changed(as_x86.cpu);
    rc = (int)run(rig);
    if (rc == 0) {
        assert_int_equal(run_page(rig)->exit_reason, KVM_EXIT_HLT);
    }
    assert_int_equal(*rig_word(rig, DATA + PAGE), rc == 0 ? before + 1 : before);
    return rc;
}

/* ---- a map over it ---- */

static struct gm_space *space;
static struct gm_region *window;
static struct gm_slots *slots;

static int attach(struct rig *rig)
{
    return gm_soft_attach(rig->soft, space, 0, &slots, NULL);
}

static int detach(struct rig *rig)
{
    (void)rig;
    return gm_slots_detach(slots, NULL);
}

static int show_window(struct rig *rig)
{
    (void)rig;
    return gm_region_set_enabled(window, true, NULL);
}

static int hide_window(struct rig *rig)
{
    (void)rig;
    return gm_region_set_enabled(window, false, NULL);
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
    const struct gm_soft_options intel = {.size = sizeof(intel), .intel_private_slots = true};
    long long mapped_bytes = inject_mapped_bytes();
    int fd = eventfd(0, EFD_CLOEXEC);
    struct gm_soft *soft;
    int rc = gm_soft_open(&intel, &soft, NULL);

    (void)rig;
    if (rc == 0) {
        rc = give_all(soft, fd);
        assert_int_equal(gm_soft_close(soft), 0);
    }
    if (failing != INJECT_UNMAP) { /* then what could not be unmapped stays */
        assert_int_equal(inject_mapped_bytes(), mapped_bytes);
    }
    close(fd);
    return rc;
}

/* ---- tests ---- */

static struct rig begin_with(const struct gm_soft_options *options)
{
    struct rig rig = run_rig_new(options);

    assert_int_equal(
        rig_set(&rig, LOGGED_SLOT, KVM_MEM_LOG_DIRTY_PAGES, LOGGED_GPA, LOGGED_PAGES * PAGE, 0), 0);
    stored = *rig_word(&rig, 3 * PAGE);
    return rig;
}

static struct rig begin(void)
{
    return begin_with(NULL);
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

static void soft_failures_in_slots_of_other_kinds_change_nothing(void **state)
{
    /* In SMM; the VM's own, as on Intel; and a follower, who is told of all slots or of none. */
    const struct gm_soft_options intel = {.size = sizeof(intel), .intel_private_slots = true};
    struct rig rig = begin_with(&intel);

    (void)state;
    assert_int_equal(tss_move_back(&rig), 0);
    fail_each(&rig, "a slot in SMM", smm_create, smm_delete);
    fail_each(&rig, "the TSS", tss_move, tss_move_back);
    fail_each(&rig, "a follower", follow, nothing);
    rig_free(&rig);
}

static void soft_failures_in_private_memory_change_nothing(void **state)
{
    /* The file, its slot, which pages are private, and a store to one of them. */
    const struct kvm_create_guest_memfd create = {.size = MEMFD_PAGES * PAGE};
    struct rig rig = begin();

    (void)state;
    private_fd = (int)rig_call(&rig, KVM_CREATE_GUEST_MEMFD, &create);
    assert_true(private_fd >= 0);
    fail_each(&rig, "a guest memfd", memfd_make, nothing);
    fail_each(&rig, "its slot", memfd_slot_create, memfd_slot_delete);
    assert_int_equal(memfd_slot_create(&rig), 0);
    assert_int_equal(set_attributes(&rig, 4, 8, KVM_MEMORY_ATTRIBUTE_PRIVATE), 0);
    fail_each(&rig, "attributes", attributes_cut, attributes_join);
    fail_each(&rig, "a private store", private_store, nothing);
    assert_int_equal(memfd_slot_delete(&rig), 0);
    close(private_fd);
    rig_free(&rig);
}

static void soft_failures_in_changes_of_host_memory_lose_nothing(void **state)
{
    /* An invalidation, and tracking, of a page that is stored to. */
    struct rig rig = begin();

    (void)state;
    gm_soft_set_tracker(rig.soft, on_written, NULL);
    fail_each(&rig, "an invalidation", invalidate, nothing);
    fail_each(&rig, "tracking", track, nothing);
    rig_free(&rig);
}

static void soft_failures_in_guests_tables_lose_nothing(void **state)
{
    /* Nested and shadowed: a store is made as a whole or not at all, and made when it is tried again. */
    (void)state;
    for (unsigned shadow = 0; shadow < 2; shadow++) {
        const struct gm_soft_options options = {.size = sizeof(options),
                                                .shadow_paging = shadow != 0};
        struct rig rig = begin_with(&options);

        fail_each(&rig, shadow != 0 ? "a shadowed store" : "a linear store", linear_store, nothing);
        fail_each(&rig, "another page", linear_remap, linear_store);
        fail_each(&rig, "a paged guest", run_paged_guest, nothing);
        rig_free(&rig);
    }
}

static void soft_failures_in_a_map_over_it_change_nothing(void **state)
{
    /* Attached and detached; and RAM that shows in the middle of other RAM, so that a slot is cut. */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(32 * PAGE);
    struct rig rig = rig_new(NULL);

    (void)state;
    add_memory(&machine, GM_REGION_RAM, 0x100000, 16 * PAGE, ram, 0);
    window = add_region(&machine, 0x104000,
                        (struct gm_region_options){.kind = GM_REGION_RAM,
                                                   .size_bytes = 4 * PAGE,
                                                   .ram = ram,
                                                   .ram_offset = 16 * PAGE,
                                                   .priority = 1,
                                                   .disabled = true});
    space = machine.space;
    fail_each(&rig, "attaching", attach, detach);
    assert_int_equal(attach(&rig), 0);
    fail_each(&rig, "a window", show_window, hide_window);
    assert_false(gm_map_is_broken(machine.map));
    assert_int_equal(detach(&rig), 0);
    rig_free(&rig);
    machine_free(&machine);
    gm_ram_put(ram);
}

static void soft_failures_in_making_leave_nothing(void **state)
{
    struct rig rig = begin();

    (void)state;
    rcu_drain(); /* what tests before this one have left to be unmapped later */
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
        cmocka_unit_test(soft_failures_in_slots_of_other_kinds_change_nothing),
        cmocka_unit_test(soft_failures_in_private_memory_change_nothing),
        cmocka_unit_test(soft_failures_in_changes_of_host_memory_lose_nothing),
        cmocka_unit_test(soft_failures_in_guests_tables_lose_nothing),
        cmocka_unit_test(soft_failures_in_a_map_over_it_change_nothing),
        cmocka_unit_test(soft_failures_in_making_leave_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, say_counts);
}
