/* unit/test_scratch.c - scratch memory: what fits comes from the piece, the rest from below, and all is there again. */
#include "base/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The allocator below, which counts, and fails when it is told to. */
struct below {
    int live;
    int allocations;
    bool fails;
};

static void *below_alloc(void *opaque, size_t size_bytes)
{
    struct below *below = opaque;

    assert_true(size_bytes > 0);
    if (below->fails) {
        return NULL;
    }
    below->live++;
    below->allocations++;
    return malloc(size_bytes);
}

static void below_free(void *opaque, void *memory)
{
    struct below *below = opaque;

    below->live--;
    free(memory);
}

struct rig {
    struct below below;
    struct scratch scratch;
};

static const struct gm_allocator *begin(struct rig *rig)
{
    const struct gm_allocator below = {below_alloc, below_free, &rig->below};

    rig->below = (struct below){0};
    scratch_init(&rig->scratch, &below);
    return &rig->scratch.allocator;
}

static void end(struct rig *rig)
{
    scratch_fini(&rig->scratch);
    assert_int_equal(rig->below.live, 0);
}

#ifndef GM_AUDIT_ON
#define FROM_PIECE true
#else
#define FROM_PIECE false /* everything comes from below */
#endif

static bool is_in_piece(const struct rig *rig, const void *memory)
{
    return (uintptr_t)memory - (uintptr_t)rig->scratch.bytes < SCRATCH_BYTES;
}

static void scratch_hands_out_apart_and_aligned(void **state)
{
    /* Pieces of all small sizes, 0 among them, are written to their ends: none overlaps another. */
    static struct rig rig;
    const struct gm_allocator *allocator = begin(&rig);
    uint8_t *pieces[64];

    (void)state;
    for (size_t i = 0; i < 64; i++) {
        pieces[i] = mem_alloc(allocator, i);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % _Alignof(max_align_t), 0);
        assert_int_equal(is_in_piece(&rig, pieces[i]), FROM_PIECE);
        memset(pieces[i], (int)i, i);
    }
    for (size_t i = 0; i < 64; i++) {
        for (size_t j = 0; j < i; j++) {
            assert_int_equal(pieces[i][j], i);
        }
    }
    for (size_t i = 0; i < 64; i++) {
        mem_free(allocator, pieces[i * 37 % 64]);
    }
    end(&rig);
}

static void scratch_is_all_there_when_the_last_comes_back(void **state)
{
    /* All of it, a byte more from below, and again all of it: but not while one piece is still out. */
    static struct rig rig;
    const struct gm_allocator *allocator = begin(&rig);
    void *small, *large, *more;

    (void)state;
    for (int round = 0; round < 3; round++) {
        small = mem_alloc(allocator, 1);
        large = mem_alloc(allocator, SCRATCH_BYTES - _Alignof(max_align_t));
        more = mem_alloc(allocator, 1);
        assert_int_equal(is_in_piece(&rig, small), FROM_PIECE);
        assert_int_equal(is_in_piece(&rig, large), FROM_PIECE);
        assert_false(is_in_piece(&rig, more));
        mem_free(allocator, large);
        large = mem_alloc(allocator, 1);
        assert_false(is_in_piece(&rig, large));
        mem_free(allocator, small);
        mem_free(allocator, more);
        mem_free(allocator, large);
        assert_int_equal(rig.below.live, 0);
    }
    large = mem_alloc(allocator, SCRATCH_BYTES + 1);
    assert_false(is_in_piece(&rig, large));
    mem_free(allocator, large);
    end(&rig);
}

static void scratch_without_memory_below_says_so(void **state)
{
    static struct rig rig;
    const struct gm_allocator *allocator = begin(&rig);

    (void)state;
    rig.below.fails = true;
    assert_null(mem_alloc(allocator, SCRATCH_BYTES + 1));
    assert_null(mem_alloc(allocator, SIZE_MAX));
    end(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scratch_hands_out_apart_and_aligned),
        cmocka_unit_test(scratch_is_all_there_when_the_last_comes_back),
        cmocka_unit_test(scratch_without_memory_below_says_so),
    };

    return cmocka_run_group_tests_name("scratch", tests, NULL, NULL);
}
