/*
 * test_hostile.c - bounds on what a guest can make the software KVM do, where no other test has them: docs/security.md
 * lists all.
 */
#include "x86_rig.h"

#include "mmu/mmu.h"
#include "x86/blocks.h"

#include "model/random.h"

#include <pthread.h>
#include <stdatomic.h>

/* A slice of KVM_RUN's (RUN_SLICE). */
#define BUDGET 8192u
/* What a string instruction does before it looks up. */
#define ELEMENTS 4096u

static void tables_have_a_limit_from_the_start(void **state)
{
    struct gm_soft_stats stats = {0};
    struct rig rig = rig_new(NULL);

    (void)state;
    gm_soft_stats(rig.soft, &stats);
    assert_int_equal(stats.table_pages_max, MMU_PAGES_DEFAULT);
    assert_int_equal(rig_call_number(&rig, KVM_GET_NR_MMU_PAGES, 0), MMU_PAGES_DEFAULT);
    rig_free(&rig);
}

static void mmio_storm_over_all_addresses_stays_within_the_limit_of_tables(void **state)
{
    /* Each access is remembered as MMIO, under tables of its own. */
    struct rnd random = {rnd_seed("a storm of MMIO")};
    struct gm_soft_stats stats = {0};
    struct rig rig = rig_new(NULL);
    uint64_t most = 0;

    (void)state;
    assert_int_equal(rig_set(&rig, 0, 0, 0, RIG_BYTES, 0), 0);
    assert_int_equal(rig_call_number(&rig, KVM_SET_NR_MMU_PAGES, 100), 0);
    *rig_word(&rig, 0x3000) = 7;
    for (unsigned i = 0; i < 5000; i++) {
        uint64_t gpa = RIG_BYTES + rnd_below(&random, (UINT64_C(1) << 52) - RIG_BYTES) / 8 * 8;
        uint64_t value = 0;

        assert_int_equal(rig_load_as(&rig, gpa, 8, &value), GM_MMU_MMIO);
        gm_soft_stats(rig.soft, &stats);
        most = stats.table_pages > most ? stats.table_pages : most;
    }
    assert_in_range(most, 50, 100 + TABLES_CACHE_MAX); /* one vCPU's stock more */
    assert_true(stats.reclaimed > 5000);
    assert_int_equal(rig_load(&rig, 0x3000), 7);
    rig_free(&rig);
}

/* Where blocks.c puts a block of 64-bit code. */
static uint64_t place_of(uintptr_t host)
{
    return ((host ^ (uint64_t)X86_MODE_64 << 60) * UINT64_C(0x9e3779b97f4a7c15)) >> 51;
}

static void code_at_addresses_of_one_place_is_not_searched_for_long(void **state)
{
    /* The hash is no secret: a guest can jump to thousands of addresses that share a place. Only so many are kept. */
    enum { BYTES = 64 << 20, COUNT = 900, KEPT = 16 };
    const uint8_t *code =
        mmap(NULL, BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct x86_blocks *blocks = blocks_new(mem_allocator_or_default(NULL));
    const uint8_t *hosts[COUNT];
    const struct block *found[COUNT];
    unsigned count = 0;

    (void)state;
    assert_ptr_not_equal(code, MAP_FAILED);
    assert_non_null(blocks);
    for (size_t at = 0; at < BYTES && count < COUNT; at += 8) {
        if (place_of((uintptr_t)code + at) == 1) {
            hosts[count] = code + at;
            found[count] = blocks_find(blocks, code + at, X86_MODE_64);
            count++;
        }
    }
    assert_int_equal(count, COUNT);
    for (unsigned i = COUNT - KEPT; i < COUNT; i++) {
        assert_ptr_equal(blocks_find(blocks, hosts[i], X86_MODE_64), found[i]);
    }
    for (unsigned i = 0; i < KEPT; i++) {
        assert_ptr_not_equal(blocks_find(blocks, hosts[i], X86_MODE_64), found[i]);
    }
    blocks_free(blocks, mem_allocator_or_default(NULL));
    munmap((void *)(uintptr_t)code, BYTES);
}

static void code_that_changes_itself_without_end_fills_no_memory(void **state)
{
    /* More versions of it than the arena of decoded code (12 MiB) has room for. */
    enum { ROUNDS = 60000 };
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    rig.cpu->gpr[X86_RBX] = 0;
    rig.cpu->gpr[X86_RCX] = ROUNDS;
    /* again: mov eax,0; add rbx,rax; inc dword [again+1]; loop again; hlt */
    assert_int_equal(
        X86_RIG_RUN(&rig, "\xb8\0\0\0\0\x48\x01\xc3\xff\x05\xf3\xff\xff\xff\xe2\xf0\xf4"),
        X86_EXIT_HLT);
    assert_int_equal(rig.cpu->gpr[X86_RBX], (uint64_t)ROUNDS * (ROUNDS - 1) / 2);
    x86_rig_free(&rig);
}

static void string_instruction_ends_with_the_budget(void **state)
{
    /* Its elements are the work, so they count. Then it goes on where it was. */
    enum { COUNT = 900000 };
    struct x86_rig rig = x86_rig_new(64);
    unsigned runs = 1;

    (void)state;
    memcpy(rig.rig.memory + X86_RIG_CODE, "\xf3\xac\xf4", 3); /* rep lodsb; hlt */
    rig.cpu->gpr[X86_RCX] = COUNT;
    rig.cpu->gpr[X86_RSI] = 0;
    assert_int_equal(x86_run(rig.cpu, BUDGET), X86_EXIT_BUDGET);
    assert_in_range(rig.cpu->gpr[X86_RCX], COUNT - BUDGET - ELEMENTS, COUNT - BUDGET);
    while (x86_run(rig.cpu, BUDGET) == X86_EXIT_BUDGET) {
        runs++;
    }
    assert_int_equal(rig.cpu->exit, X86_EXIT_HLT);
    assert_int_equal(rig.cpu->gpr[X86_RCX], 0);
    assert_int_equal(rig.cpu->gpr[X86_RSI], COUNT);
    assert_in_range(runs, COUNT / (BUDGET + ELEMENTS), COUNT / BUDGET + 1);
    x86_rig_free(&rig);
}

static void short_string_instructions_end_with_the_budget(void **state)
{
    /* Each ends before it would look up. */
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    /* again: mov ecx,4000; xor esi,esi; repe cmpsb; jmp again, which compares memory with itself */
    memcpy(rig.rig.memory + X86_RIG_CODE, "\xb9\xa0\x0f\0\0\x31\xf6\x31\xff\xf3\xa6\xeb\xf3", 13);
    assert_int_equal(x86_run(rig.cpu, BUDGET), X86_EXIT_BUDGET);
    assert_in_range(rig.cpu->instructions, 2 * 5, 4 * 5);
    x86_rig_free(&rig);
}

struct peer {
    uint64_t *entry;
    uint64_t rounds;
    atomic_bool ends;
};

/* Takes the accessed flag off, as fast as it can. */
static void *rewrite(void *opaque)
{
    struct peer *peer = opaque;

    while (!atomic_load(&peer->ends)) {
        __atomic_and_fetch(peer->entry, ~UINT64_C(0x20), __ATOMIC_RELAXED);
        peer->rounds++;
    }
    return NULL;
}

static void walks_of_a_table_that_a_peer_rewrites_all_the_time_end(void **state)
{
    /* Each time that it gets between the load and the exchange the walk begins anew. */
    struct x86_rig rig = x86_rig_new(64);
    struct peer peer = {.entry = rig_word(&rig.rig, X86_RIG_PD)};
    pthread_t thread;

    (void)state;
    x86_rig_put(&rig, X86_RIG_DATA, 0x1122334455667788);
    rig.cpu->gpr[X86_RCX] = 100000;
    assert_int_equal(pthread_create(&thread, NULL, rewrite, &peer), 0);
    /* again: mov rax,cr3; mov cr3,rax; mov rbx,[0x20000]; loop again; hlt */
    assert_int_equal(
        X86_RIG_RUN(&rig, "\x0f\x20\xd8\x0f\x22\xd8\x48\x8b\x1c\x25\0\0\2\0\xe2\xf0\xf4"),
        X86_EXIT_HLT);
    atomic_store(&peer.ends, true);
    pthread_join(thread, NULL);
    assert_true(peer.rounds > 0);
    assert_int_equal(rig.cpu->gpr[X86_RBX], 0x1122334455667788);
    x86_rig_free(&rig);
}

static void instruction_with_too_many_accesses_comes_out(void **state)
{
    /* XRSTOR from where no memory is: 576 bytes. Each read is an exit, and is remembered until the instruction is done. */
    struct x86_rig rig = x86_rig_new(64);
    unsigned count = 0;
    enum x86_exit exit;

    (void)state;
    rig.cpu->cr4 |= UINT64_C(1) << 18;
    rig.cpu->gpr[X86_RAX] = 3;
    rig.cpu->gpr[X86_RDX] = 0;
    rig.cpu->gpr[X86_RDI] = RIG_BYTES + 0x1000;
    x86_state_changed(rig.cpu);
    exit = X86_RIG_RUN(&rig, "\x48\x0f\xae\x2f\xf4"); /* xrstor64 [rdi]; hlt */
    for (; exit == X86_EXIT_MMIO && count < 1000; count++) {
        exit = x86_run(rig.cpu, BUDGET);
    }
    assert_int_equal(exit, X86_EXIT_EMULATION);
    assert_int_equal(count, X86_ANSWERS_MAX);
    assert_int_equal(rig.cpu->rip, X86_RIG_CODE);
    x86_rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_have_a_limit_from_the_start),
        cmocka_unit_test(mmio_storm_over_all_addresses_stays_within_the_limit_of_tables),
        cmocka_unit_test(code_at_addresses_of_one_place_is_not_searched_for_long),
        cmocka_unit_test(code_that_changes_itself_without_end_fills_no_memory),
        cmocka_unit_test(walks_of_a_table_that_a_peer_rewrites_all_the_time_end),
        cmocka_unit_test(instruction_with_too_many_accesses_comes_out),
        cmocka_unit_test(string_instruction_ends_with_the_budget),
        cmocka_unit_test(short_string_instructions_end_with_the_budget),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
