/*
 * tests/kvm/test_kvm_backend.c - the slot operations on /dev/kvm, one by one, with slots made by hand.
 * What KVM answers is in its manual (Linux api.rst) and was asked of a real kernel.
 */
#include "guest.h"

#include "kvm/backend.h"
#include "kvm/io.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define LOGGED_GPA 0x10000u
#define LOGGED_PAGES 230u /* no multiple of 64 */
#define LOGGED_WORDS 4u

/* A VM with a backend and one vCPU; slot 0 holds the program, slot 1 is there to be written. */
struct rig {
    int system_fd;
    int vm_fd;
    int vcpu_fd;
    struct kvm_features features;
    struct kvm_backend backend;
    struct gm_backend_ops ops;
    struct kvm_run *run;
    uint8_t *memory;
    struct guest program; /* only its `code` is used */
    struct gm_slot code;
    struct gm_slot logged;
};

static void rig_init(struct rig *rig, uint32_t flags)
{
    size_t bytes = GUEST_RAM_BYTES + LOGGED_PAGES * 4096;

    memset(rig, 0, sizeof(*rig));
    assert_int_equal(kvm_open(KVM_DEVICE_PATH, &rig->system_fd, NULL), 0);
    assert_int_equal(kvm_make_vm(rig->system_fd, &rig->vm_fd, NULL), 0);
    assert_int_equal(kvm_probe(rig->system_fd, rig->vm_fd, &rig->features, NULL), 0);
    assert_int_equal(kvm_backend_init(&rig->backend, rig->vm_fd, &rig->features,
                                      &(struct kvm_backend_choice){.flags = flags}, NULL),
                     0);
    rig->ops = kvm_backend_ops(&rig->backend, 0);
    rig->memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(rig->memory != MAP_FAILED);
    rig->code = (struct gm_slot){.size_bytes = GUEST_RAM_BYTES, .hva = rig->memory};
    rig->logged = (struct gm_slot){
        .number = 1,
        .flags = GM_SLOT_LOG,
        .gpa = LOGGED_GPA,
        .size_bytes = LOGGED_PAGES * 4096,
        .hva = rig->memory + GUEST_RAM_BYTES,
    };
    assert_int_equal(rig->ops.create(&rig->backend.faces[0], &rig->code), 0);
    assert_int_equal(rig->ops.create(&rig->backend.faces[0], &rig->logged), 0);
    rig->vcpu_fd = ioctl(rig->vm_fd, KVM_CREATE_VCPU, 0);
    assert_true(rig->vcpu_fd >= 0);
    rig->run =
        mmap(NULL, rig->features.run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, rig->vcpu_fd, 0);
    assert_true(rig->run != MAP_FAILED);
}

static void rig_fini(struct rig *rig)
{
    munmap(rig->run, rig->features.run_bytes);
    close(rig->vcpu_fd);
    assert_int_equal(rig->ops.destroy(&rig->backend.faces[0], &rig->logged), 0);
    assert_int_equal(rig->ops.destroy(&rig->backend.faces[0], &rig->code), 0);
    kvm_backend_fini(&rig->backend);
    munmap(rig->memory, GUEST_RAM_BYTES + LOGGED_PAGES * 4096);
    close(rig->vm_fd);
    close(rig->system_fd);
}

static struct guest *rig_program(struct rig *rig)
{
    rig->program.code = rig->memory + GUEST_CODE;
    guest_reset_fd(rig->vcpu_fd);
    return &rig->program;
}

static void rig_run(struct rig *rig, unsigned expected_exit)
{
    assert_int_equal(ioctl(rig->vcpu_fd, KVM_RUN, NULL), 0);
    assert_int_equal(rig->run->exit_reason, expected_exit);
}

/* The guest writes these pages of the logged slot; the list ends with LOGGED_PAGES. */
static void rig_dirty(struct rig *rig, const unsigned *pages)
{
    struct guest *program = rig_program(rig);

    for (; *pages != LOGGED_PAGES; pages++) {
        guest_emit_dirty_page(program, LOGGED_GPA / 4096 + *pages);
    }
    EMIT_HLT(program);
    rig_run(rig, KVM_EXIT_HLT);
}

static void expect_log(struct rig *rig, uint64_t first_page, uint64_t page_count,
                       const unsigned *pages)
{
    uint64_t expected[LOGGED_WORDS] = {0};
    uint64_t bitmap[LOGGED_WORDS];

    for (; *pages != LOGGED_PAGES; pages++) {
        expected[*pages / 64] |= (uint64_t)1 << (*pages % 64);
    }
    memset(bitmap, 0xee, sizeof(bitmap));
    assert_int_equal(
        rig->ops.log_fetch(&rig->backend.faces[0], &rig->logged, first_page, page_count, bitmap),
        0);
    assert_memory_equal(bitmap, expected, sizeof(bitmap));
}

static const unsigned nothing[] = {LOGGED_PAGES};
static const unsigned spread[] = {0, 1, 63, 64, 75, 127, 128, 200, 229, LOGGED_PAGES};

static void open_missing_device_says_how_to_go_on(void **state)
{
    /* The one thing a user without /dev/kvm needs is the next step. */
    struct gm_diag diag = {0};
    int fd = -5;

    (void)state;
    assert_int_equal(kvm_open("/dev/no-such-kvm", &fd, &diag), -ENOENT);
    assert_int_equal(diag.code, -ENOENT);
    assert_non_null(strstr(diag.text, "/dev/no-such-kvm does not exist"));
    assert_non_null(strstr(diag.text, "modprobe"));
    assert_null(strchr(diag.text, '\n'));
    assert_int_equal(fd, -5);
}

static void open_other_device_is_refused(void **state)
{
    /* A device that opens but is not KVM is told apart by its missing API version. */
    struct gm_diag diag = {0};
    int fd;

    (void)state;
    assert_int_equal(kvm_open("/dev/null", &fd, &diag), -EOPNOTSUPP);
    assert_non_null(strstr(diag.text, "/dev/null is not KVM"));
}

static void options_missing_capabilities_reach_the_planner(void **state)
{
    /* What a kernel cannot do, the plan must not contain. */
    struct kvm_backend backend = {.features = {.max_slots = 509}};
    struct gm_backend_options options = kvm_backend_options(&backend, 0);

    (void)state;
    assert_int_equal(options.max_slots, 509);
    assert_int_equal(options.page_bytes, (unsigned)sysconf(_SC_PAGESIZE));
    assert_true(options.no_readonly && options.no_join && options.no_destroy && options.needs_hva);
    assert_null(kvm_backend_ops(&backend, 0).eventfd_add);
    assert_null(kvm_backend_ops(&backend, 0).eventfd_del);

    backend.features.readonly_slots = true;
    backend.features.join_works = true;
    backend.features.destroy_works = true;
    backend.features.eventfds = true;
    options = kvm_backend_options(&backend, 600);
    assert_int_equal(options.max_slots, 509);
    assert_false(options.no_readonly || options.no_join || options.no_destroy);
    assert_int_equal(kvm_backend_options(&backend, 7).max_slots, 7);
    assert_non_null(kvm_backend_ops(&backend, 0).eventfd_add);
}

static void probe_foreign_descriptor_is_refused(void **state)
{
    /* An attached pair of descriptors may be anything. */
    struct kvm_features features;
    struct gm_diag diag = {0};

    (void)state;
    assert_int_equal(kvm_probe(0, 0, &features, &diag), -EOPNOTSUPP);
    assert_true(diag.text[0] != '\0');
}

static void create_overlapping_slot_returns_eexist(void **state)
{
    /* KVM's own errors come back as they are, and change nothing. */
    struct rig rig;
    struct gm_slot other;

    (void)state;
    GUEST_NEEDS_KVM();
    rig_init(&rig, 0);
    other = rig.logged;
    other.number = 2;
    assert_int_equal(rig.ops.create(&rig.backend.faces[0], &other), -EEXIST);
    other.gpa += 1;
    assert_int_equal(rig.ops.create(&rig.backend.faces[0], &other), -EINVAL);
    assert_int_equal(rig.ops.destroy(&rig.backend.faces[0], &other), -EINVAL);
    rig_dirty(&rig, spread);
    expect_log(&rig, 0, LOGGED_PAGES, spread);
    rig_fini(&rig);
}

static void set_flags_log_on_and_off_starts_and_ends_the_log(void **state)
{
    /* A log exists only while the flag is set, and is fresh each time. */
    const unsigned five[] = {5, LOGGED_PAGES};
    uint64_t bitmap[LOGGED_WORDS];
    struct rig rig;

    (void)state;
    GUEST_NEEDS_KVM();
    rig_init(&rig, 0);
    rig_dirty(&rig, spread);
    assert_int_equal(rig.ops.set_flags(&rig.backend.faces[0], &rig.logged, 0), 0);
    assert_int_equal(rig.ops.log_fetch(&rig.backend.faces[0], &rig.logged, 0, LOGGED_PAGES, bitmap),
                     -ENOENT);
    rig_dirty(&rig, spread);
    assert_int_equal(rig.ops.set_flags(&rig.backend.faces[0], &rig.logged, GM_SLOT_LOG), 0);
    expect_log(&rig, 0, LOGGED_PAGES, nothing);
    rig_dirty(&rig, five);
    expect_log(&rig, 0, LOGGED_PAGES, five);
    rig_fini(&rig);
}

static void log_fetch_without_manual_protect_takes_the_whole_log(void **state)
{
    /* KVM_GET_DIRTY_LOG clears what it gives: the range that was asked for does not matter. */
    struct rig rig;

    (void)state;
    GUEST_NEEDS_KVM();
    rig_init(&rig, KVM_BACKEND_NO_MANUAL_PROTECT);
    assert_false(rig.backend.manual_protect);
    rig_dirty(&rig, spread);
    expect_log(&rig, 64, 64, spread);
    expect_log(&rig, 0, LOGGED_PAGES, nothing);
    rig_dirty(&rig, spread);
    expect_log(&rig, 0, LOGGED_PAGES, spread);
    rig_fini(&rig);
}

static void log_fetch_with_manual_protect_clears_the_words_asked_for(void **state)
{
    /* Words of 64 pages that hold the range are cleared; the others are reported again. */
    const unsigned without_second_word[] = {0, 1, 63, 128, 200, 229, LOGGED_PAGES};
    const unsigned first_three_words[] = {0, 1, 63, 128, LOGGED_PAGES};
    struct rig rig;

    (void)state;
    GUEST_NEEDS_KVM();
    rig_init(&rig, 0);
    if (!rig.backend.manual_protect) {
        rig_fini(&rig);
        skip();
    }
    rig_dirty(&rig, spread);
    expect_log(&rig, 70, 10, spread);
    expect_log(&rig, 70, 10, without_second_word);
    expect_log(&rig, LOGGED_PAGES - 1, 1, without_second_word);
    expect_log(&rig, 0, 0, first_three_words);
    expect_log(&rig, 63, 66, first_three_words);
    expect_log(&rig, 0, LOGGED_PAGES, nothing);
    rig_fini(&rig);
}

static void log_fetch_after_clear_sees_the_next_write(void **state)
{
    /* A cleared page is protected again: its next write is a new bit. */
    const unsigned two[] = {75, 229, LOGGED_PAGES};
    struct rig rig;

    (void)state;
    GUEST_NEEDS_KVM();
    rig_init(&rig, 0);
    for (unsigned i = 0; i < 3; i++) {
        rig_dirty(&rig, spread);
        expect_log(&rig, 0, LOGGED_PAGES, spread);
        rig_dirty(&rig, two);
        expect_log(&rig, 0, LOGGED_PAGES, two);
    }
    rig_fini(&rig);
}

static void readonly_slot_written_exits_as_mmio(void **state)
{
    /* A read-only slot is read directly, and written by an exit. */
    struct gm_slot rom;
    struct guest *program;
    struct rig rig;

    (void)state;
    GUEST_NEEDS_KVM();
    rig_init(&rig, 0);
    if (!rig.features.readonly_slots) {
        rig_fini(&rig);
        skip();
    }
    rom = (struct gm_slot){2, GM_SLOT_READONLY, 0x9000, 4096, rig.logged.hva, NULL, 0};
    *(uint8_t *)rom.hva = 0x37;
    assert_int_equal(rig.ops.create(&rig.backend.faces[0], &rom), 0);
    program = rig_program(&rig);
    EMIT_LOAD_AL(program, 0x9000);
    EMIT_STORE_AL(program, 0x9010);
    rig_run(&rig, KVM_EXIT_MMIO);
    assert_int_equal(rig.run->mmio.phys_addr, 0x9010);
    assert_int_equal(rig.run->mmio.is_write, 1);
    assert_int_equal(rig.run->mmio.len, 1);
    assert_int_equal(rig.run->mmio.data[0], 0x37);
    assert_int_equal(rig.ops.destroy(&rig.backend.faces[0], &rom), 0);
    rig_fini(&rig);
}

/* How often an eventfd was signalled since the last look; 0 if not at all. */
static uint64_t signals(int fd)
{
    uint64_t count = 0;

    if (read(fd, &count, sizeof(count)) != (ssize_t)sizeof(count)) {
        assert_int_equal(errno, EAGAIN);
    }
    return count;
}

static void eventfd_in_memory_takes_only_its_value(void **state)
{
    /* A matching write signals and does not exit; another value exits. */
    int fd = eventfd(0, EFD_NONBLOCK);
    struct guest *program;
    struct rig rig;

    (void)state;
    GUEST_NEEDS_KVM();
    rig_init(&rig, 0);
    if (!rig.features.eventfds) {
        rig_fini(&rig);
        skip();
    }
    assert_int_equal(rig.ops.eventfd_add(&rig.backend.faces[0], GUEST_MMIO, 1, true, 7, fd), 0);
    assert_int_equal(rig.ops.eventfd_add(&rig.backend.faces[0], GUEST_MMIO, 1, true, 7, fd),
                     -EEXIST);
    program = rig_program(&rig);
    EMIT_MOV_AL(program, 7);
    EMIT_STORE_AL(program, GUEST_MMIO);
    EMIT_MOV_AL(program, 8);
    EMIT_STORE_AL(program, GUEST_MMIO);
    rig_run(&rig, KVM_EXIT_MMIO);
    assert_int_equal(rig.run->mmio.data[0], 8);
    assert_int_equal(signals(fd), 1);
    assert_int_equal(rig.ops.eventfd_del(&rig.backend.faces[0], GUEST_MMIO, 1, true, 7, fd), 0);
    assert_int_equal(rig.ops.eventfd_del(&rig.backend.faces[0], GUEST_MMIO, 1, true, 7, fd),
                     -ENOENT);
    close(fd);
    rig_fini(&rig);
}

static void eventfd_of_any_size_needs_the_capability(void **state)
{
    /* Size 0 takes writes of every size, where the kernel says that it can. */
    int fd = eventfd(0, EFD_NONBLOCK);
    struct gm_backend_ops ports;
    struct guest *program;
    struct rig rig;

    (void)state;
    GUEST_NEEDS_KVM();
    rig_init(&rig, 0);
    ports = kvm_port_ops(&rig.backend);
    if (rig.features.eventfds_any_size) {
        assert_int_equal(ports.eventfd_add(&rig.backend.faces[0], 0x40, 0, false, 0, fd), 0);
        program = rig_program(&rig);
        EMIT_MOV_DX(program, 0x40);
        EMIT_OUT_AL(program);
        EMIT(program, 0xef); /* out dx, ax */
        EMIT_HLT(program);
        rig_run(&rig, KVM_EXIT_HLT);
        assert_int_equal(signals(fd), 2);
        assert_int_equal(ports.eventfd_del(&rig.backend.faces[0], 0x40, 0, false, 0, fd), 0);
    }
    rig.backend.features.eventfds_any_size = false;
    assert_int_equal(ports.eventfd_add(&rig.backend.faces[0], 0x40, 0, false, 0, fd), -EOPNOTSUPP);
    close(fd);
    rig_fini(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open_missing_device_says_how_to_go_on),
        cmocka_unit_test(open_other_device_is_refused),
        cmocka_unit_test(options_missing_capabilities_reach_the_planner),
        cmocka_unit_test(probe_foreign_descriptor_is_refused),
        cmocka_unit_test(create_overlapping_slot_returns_eexist),
        cmocka_unit_test(set_flags_log_on_and_off_starts_and_ends_the_log),
        cmocka_unit_test(log_fetch_without_manual_protect_takes_the_whole_log),
        cmocka_unit_test(log_fetch_with_manual_protect_clears_the_words_asked_for),
        cmocka_unit_test(log_fetch_after_clear_sees_the_next_write),
        cmocka_unit_test(readonly_slot_written_exits_as_mmio),
        cmocka_unit_test(eventfd_in_memory_takes_only_its_value),
        cmocka_unit_test(eventfd_of_any_size_needs_the_capability),
    };

    return guest_exit_code(cmocka_run_group_tests(tests, NULL, NULL));
}
