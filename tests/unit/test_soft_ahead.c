/*
 * unit/test_soft_ahead.c - host pages that are made present before a vCPU that goes through memory in order asks for
 * them: the host gives nothing for it that it had not given already, and what is found is not believed for too long.
 */
#include <guestmem/soft_ioctl.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE UINT64_C(4096)
#define PAGES UINT64_C(256)

/* One slot over a file of which the first pages are there. */
struct rig {
    struct gm_soft *soft;
    struct gm_soft_vcpu *vcpu;
    struct gm_mmu *mmu;
    int fd;
    uint8_t *memory;
};

static void set_slot(struct rig *rig, uint64_t size_bytes)
{
    struct gm_soft_slot slot = {.size_bytes = size_bytes, .hva = (uintptr_t)rig->memory};

    assert_int_equal(gm_soft_set_slots(rig->soft, &slot, 1, NULL), 0);
}

static void rig_init(struct rig *rig, int map_flags, uint64_t pages_there)
{
    static const uint8_t one = 1;

    rig->fd = memfd_create("ahead", MFD_CLOEXEC);
    assert_int_not_equal(rig->fd, -1);
    assert_int_equal(ftruncate(rig->fd, (off_t)(PAGES * PAGE)), 0);
    for (uint64_t i = 0; i < pages_there; i++) {
        assert_int_equal(pwrite(rig->fd, &one, 1, (off_t)(i * PAGE)), 1);
    }
    rig->memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, map_flags, rig->fd, 0);
    assert_ptr_not_equal(rig->memory, MAP_FAILED);
    assert_int_equal(gm_soft_open(NULL, &rig->soft, NULL), 0);
    set_slot(rig, PAGES * PAGE);
    assert_int_equal(gm_soft_vcpu_new(rig->soft, 0, &rig->vcpu), 0);
    rig->mmu = gm_soft_vcpu_mmu(rig->vcpu);
}

static void rig_fini(struct rig *rig)
{
    gm_soft_vcpu_free(rig->vcpu);
    assert_int_equal(gm_soft_close(rig->soft), 0);
    munmap(rig->memory, PAGES * PAGE);
    close(rig->fd);
}

static enum gm_mmu_outcome store(struct rig *rig, uint64_t page)
{
    enum gm_mmu_outcome outcome;

    assert_int_equal(gm_mmu_enter(rig->mmu), GM_MMU_OK);
    outcome = gm_mmu_store(rig->mmu, page * PAGE, 8, page);
    gm_mmu_leave(rig->mmu);
    return outcome;
}

static void load(struct rig *rig, uint64_t page)
{
    uint64_t value;

    assert_int_equal(gm_mmu_enter(rig->mmu), GM_MMU_OK);
    assert_int_equal(gm_mmu_load(rig->mmu, page * PAGE, 8, &value), GM_MMU_OK);
    gm_mmu_leave(rig->mmu);
}

/* Pages that the file has. */
static uint64_t pages_of(const struct rig *rig)
{
    struct stat status;

    assert_int_equal(fstat(rig->fd, &status), 0);
    return (uint64_t)status.st_blocks * 512 / PAGE;
}

/* Is the page in this process's tables? Bit 63 of /proc/self/pagemap (Linux, pagemap.rst). */
static bool is_mapped(const struct rig *rig, uint64_t page)
{
    FILE *file = fopen("/proc/self/pagemap", "rb");
    uint64_t entry = 0;

    assert_non_null(file);
    assert_int_equal(fseek(file, (long)(((uintptr_t)rig->memory / PAGE + page) * 8), SEEK_SET), 0);
    assert_int_equal(fread(&entry, 8, 1, file), 1);
    fclose(file);
    return entry >> 63 != 0;
}

static void ahead_goes_as_far_as_the_host_has_pages(void **state)
{
    /* In order over 100 pages that are there: those behind become present before they are touched, and holes
     * stay holes, for the guest's writes and for its reads. */
    (void)state;
    for (int writes = 0; writes < 2; writes++) {
        struct rig rig;

        rig_init(&rig, MAP_SHARED, 100);
        for (uint64_t page = 0; page < 20; page++) {
            if (writes) {
                assert_int_equal(store(&rig, page), GM_MMU_OK);
            } else {
                load(&rig, page);
            }
        }
        assert_true(is_mapped(&rig, 21));
        for (uint64_t page = 20; page < 100; page++) {
            if (writes) {
                assert_int_equal(store(&rig, page), GM_MMU_OK);
            } else {
                load(&rig, page);
            }
        }
        assert_int_equal(pages_of(&rig), 100);
        assert_int_equal(store(&rig, 100), GM_MMU_OK);
        assert_int_equal(store(&rig, 101), GM_MMU_OK);
        assert_int_equal(pages_of(&rig), 102);
        rig_fini(&rig);
    }
}

static void ahead_copies_no_private_page(void **state)
{
    /* A private mapping of the same: what the guest has not written shows the file still. */
    struct rig rig;

    (void)state;
    rig_init(&rig, MAP_PRIVATE, 100);
    for (uint64_t page = 0; page < 50; page++) {
        assert_int_equal(store(&rig, page), GM_MMU_OK);
    }
    for (uint64_t page = 50; page < 100; page++) {
        static const uint8_t two = 2;

        assert_int_equal(pwrite(rig.fd, &two, 1, (off_t)(page * PAGE)), 1);
        assert_int_equal(rig.memory[page * PAGE], 2);
    }
    rig_fini(&rig);
}

static void ahead_touches_nothing_in_no_order(void **state)
{
    /* Each second page, and backwards: only what is touched becomes present. */
    struct rig rig;

    (void)state;
    rig_init(&rig, MAP_SHARED, PAGES);
    for (uint64_t page = 0; page < 128; page += 2) {
        assert_int_equal(store(&rig, page), GM_MMU_OK);
    }
    for (uint64_t page = 255; page > 200; page--) {
        assert_int_equal(store(&rig, page), GM_MMU_OK);
    }
    for (uint64_t page = 0; page < PAGES; page++) {
        assert_int_equal(is_mapped(&rig, page), (page < 128 && page % 2 == 0) || page > 200);
    }
    rig_fini(&rig);
}

static void ahead_forgets_at_an_invalidation(void **state)
{
    /* Memory that was present is protected: the guest's write is an error, and no signal. */
    struct rig rig;

    (void)state;
    rig_init(&rig, MAP_SHARED, PAGES);
    for (uint64_t page = 0; page < 40; page++) {
        assert_int_equal(store(&rig, page), GM_MMU_OK);
    }
    assert_true(is_mapped(&rig, 45));
    gm_soft_invalidate_begin(rig.soft, (uintptr_t)rig.memory + 45 * PAGE, PAGE);
    assert_int_equal(mprotect(rig.memory + 45 * PAGE, PAGE, PROT_NONE), 0);
    gm_soft_invalidate_end(rig.soft, (uintptr_t)rig.memory + 45 * PAGE, PAGE);
    for (uint64_t page = 40; page < 80; page++) {
        assert_int_equal(store(&rig, page), page == 45 ? GM_MMU_ERROR : GM_MMU_OK);
    }
    rig_fini(&rig);
}

static void ahead_forgets_with_its_slots(void **state)
{
    /* Memory of no slot may change untold: so it does between two slots of the same addresses. */
    struct rig rig;

    (void)state;
    rig_init(&rig, MAP_SHARED, PAGES);
    for (uint64_t page = 0; page < 40; page++) {
        assert_int_equal(store(&rig, page), GM_MMU_OK);
    }
    set_slot(&rig, 0);
    assert_int_equal(mprotect(rig.memory + 45 * PAGE, PAGE, PROT_READ), 0);
    set_slot(&rig, PAGES * PAGE);
    for (uint64_t page = 40; page < 80; page++) {
        assert_int_equal(store(&rig, page), page == 45 ? GM_MMU_ERROR : GM_MMU_OK);
    }
    rig_fini(&rig);
}

static void ahead_reads_are_no_proof_for_writes(void **state)
{
    /* Read in order, then write: what may only be read is an error. */
    struct rig rig;

    (void)state;
    rig_init(&rig, MAP_SHARED, PAGES);
    assert_int_equal(mprotect(rig.memory + 45 * PAGE, PAGE, PROT_READ), 0);
    for (uint64_t page = 0; page < 40; page++) {
        load(&rig, page);
    }
    assert_true(is_mapped(&rig, 45));
    for (uint64_t page = 40; page < 80; page++) {
        assert_int_equal(store(&rig, page), page == 45 ? GM_MMU_ERROR : GM_MMU_OK);
    }
    rig_fini(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ahead_goes_as_far_as_the_host_has_pages),
        cmocka_unit_test(ahead_copies_no_private_page),
        cmocka_unit_test(ahead_touches_nothing_in_no_order),
        cmocka_unit_test(ahead_forgets_at_an_invalidation),
        cmocka_unit_test(ahead_forgets_with_its_slots),
        cmocka_unit_test(ahead_reads_are_no_proof_for_writes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
