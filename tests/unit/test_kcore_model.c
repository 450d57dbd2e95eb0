/*
 * unit/test_kcore_model.c - random lists of changes against a slow model: an array of slots, changed one
 * by one, each rule a loop over all of them. After each list the same answer, the same slots, the
 * same dirty bits, and mmu asked for just what the list comes to.
 */
#include "unit/arch.h"

#include "model/random.h"

#define PAGE UINT64_C(4096)
#define IDS 12
#define FRAMES 80u
#define HOST_PAGES 40u
#define PAGES_MAX 8u
#define LIST_MAX 8
#define TEXT_BYTES 4096

struct model_slot {
    bool is_there;
    uint32_t flags;
    uint64_t frame;
    uint64_t page_count;
    uint64_t host_page;
    bool dirty[PAGES_MAX];
};

struct model {
    struct model_slot slots[2][IDS];
    char said[TEXT_BYTES]; /* what mmu is asked for */
    uint64_t generation;
};

/* What the list has named, in order of first naming. */
struct named {
    unsigned space;
    unsigned id;
    bool was_deleted;
};

struct session {
    struct arch *arch;
    struct rnd rnd;
    struct model model;
    struct memslot_change list[LIST_MAX];
    struct named named[LIST_MAX];
    size_t named_count;
};

__attribute__((format(printf, 2, 3))) static void model_say(struct model *model, const char *format,
                                                            ...)
{
    size_t length = strlen(model->said);
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(model->said + length, TEXT_BYTES - length, format, arguments);
    va_end(arguments);
}

static bool overlaps_another(const struct model *model, unsigned space, unsigned id,
                             const struct memslot_change *change)
{
    uint64_t first = change->gpa / PAGE;
    uint64_t end = first + change->size_bytes / PAGE;

    for (unsigned i = 0; i < IDS; i++) {
        const struct model_slot *slot = &model->slots[space][i];

        if (i != id && slot->is_there && slot->frame < end &&
            first < slot->frame + slot->page_count) {
            return true;
        }
    }
    return false;
}

static struct named *name(struct session *session, unsigned space, unsigned id)
{
    for (size_t i = 0; i < session->named_count; i++) {
        if (session->named[i].space == space && session->named[i].id == id) {
            return &session->named[i];
        }
    }
    session->named[session->named_count] = (struct named){.space = space, .id = id};
    session->named_count++;
    return &session->named[session->named_count - 1];
}

static bool is_aligned(const struct memslot_change *change)
{
    return (change->gpa | change->size_bytes | change->hva) % PAGE == 0;
}

/* A log that begins: clean, but for a slot that the list itself has turned off: nothing is lost then. */
static void begin_log(struct model_slot *slot, const struct model_slot *before, bool was_deleted)
{
    memset(slot->dirty, 0, sizeof(slot->dirty));
    if (before->is_there && !was_deleted && (before->flags & MEMSLOT_LOG) != 0) {
        memcpy(slot->dirty, before->dirty, sizeof(slot->dirty));
    }
}

/* One change, by the letter of LAB.md. @old: the model before the list. */
static int model_change(struct session *session, struct model *model, const struct model *old,
                        const struct memslot_change *change)
{
    unsigned space = change->slot >> 16;
    unsigned id = change->slot & 0xffff;
    struct model_slot *slot;
    struct named *named;
    bool is_move;

    if ((change->flags & ~3u) != 0 || !is_aligned(change) || space > 1 || id >= 32764) {
        return -EINVAL;
    }
    slot = &model->slots[space][id];
    named = name(session, space, id);
    if (change->size_bytes == 0) {
        if (!slot->is_there) {
            return -EINVAL;
        }
        slot->is_there = false;
        named->was_deleted = true;
        return 0;
    }
    if (slot->is_there &&
        (slot->page_count != change->size_bytes / PAGE || slot->host_page != change->hva / PAGE ||
         ((slot->flags ^ change->flags) & MEMSLOT_READONLY) != 0)) {
        return -EINVAL;
    }
    is_move = !slot->is_there || slot->frame != change->gpa / PAGE;
    if (is_move && overlaps_another(model, space, id, change)) {
        return -EEXIST;
    }
    if (is_move) {
        model_say(model, "prepare:%u.%u ", space, id);
    }
    if ((change->flags & MEMSLOT_LOG) != 0 &&
        (!slot->is_there || (slot->flags & MEMSLOT_LOG) == 0)) {
        begin_log(slot, &old->slots[space][id], named->was_deleted);
    }
    slot->is_there = true;
    slot->flags = change->flags;
    slot->frame = change->gpa / PAGE;
    slot->page_count = change->size_bytes / PAGE;
    slot->host_page = change->hva / PAGE;
    return 0;
}

struct comes_to {
    bool removes;
    bool commits;
    bool replaces;
};

static struct comes_to compare(const struct model_slot *before, const struct model_slot *after,
                               bool was_deleted)
{
    struct comes_to to = {false, false, false};

    if (!before->is_there || !after->is_there) {
        to.removes = before->is_there;
        to.commits = before->is_there != after->is_there;
        return to;
    }
    to.replaces = was_deleted;
    to.removes = was_deleted || before->frame != after->frame;
    to.commits = to.removes || before->flags != after->flags;
    return to;
}

static void say_commit(struct model *model, const struct named *named,
                       const struct model_slot *before, const struct model_slot *after)
{
    model_say(model, "commit:%u.%u:", named->space, named->id);
    if (before != NULL && before->is_there) {
        model_say(model, "%x>", before->flags);
    } else {
        model_say(model, "->");
    }
    if (after != NULL && after->is_there) {
        model_say(model, "%x ", after->flags);
    } else {
        model_say(model, "- ");
    }
}

/* What mmu is asked for, and how many versions there are. */
static void model_finish(struct session *session, struct model *model, const struct model *old)
{
    const struct model_slot none = {.is_there = false};
    bool removes[2] = {false, false};
    bool changes[2] = {false, false};
    struct comes_to to[2][IDS] = {{{false, false, false}}};

    for (size_t i = 0; i < session->named_count; i++) {
        const struct named *n = &session->named[i];

        to[n->space][n->id] =
            compare(&old->slots[n->space][n->id], &model->slots[n->space][n->id], n->was_deleted);
        removes[n->space] |= to[n->space][n->id].removes;
        changes[n->space] |= to[n->space][n->id].commits;
    }
    for (unsigned space = 0; space < 2; space++) {
        model->generation += (removes[space] ? 1 : 0) + (changes[space] ? 1 : 0);
        for (unsigned id = 0; id < IDS; id++) {
            if (to[space][id].removes) {
                model_say(model, "flush:%u.%u ", space, id);
            }
        }
    }
    for (size_t i = 0; i < session->named_count; i++) {
        const struct named *n = &session->named[i];
        const struct model_slot *before = &old->slots[n->space][n->id];
        const struct model_slot *after = &model->slots[n->space][n->id];

        if (to[n->space][n->id].replaces) {
            say_commit(model, n, before, &none);
            say_commit(model, n, &none, after);
        } else if (to[n->space][n->id].commits) {
            say_commit(model, n, before, after);
        }
    }
    if (changes[0] || changes[1]) {
        model_say(model, "tlb ");
    }
}

static struct memslot_change random_change(struct session *session)
{
    struct rnd *rnd = &session->rnd;
    unsigned space = rnd_one_in(rnd, 4) ? 1 : 0;
    unsigned id = (unsigned)rnd_below(rnd, IDS);
    const struct model_slot *slot = &session->model.slots[space][id];
    struct memslot_change change = {
        .slot = space << 16 | id,
        .flags = (uint32_t)rnd_below(rnd, 4),
        .gpa = rnd_below(rnd, FRAMES) * PAGE,
        .size_bytes = (1 + rnd_below(rnd, PAGES_MAX)) * PAGE,
        .hva = rnd_below(rnd, HOST_PAGES) * PAGE,
    };

    /* Mostly what fits the slot as it is: else all changes would be refused. */
    if (slot->is_there && !rnd_one_in(rnd, 8)) {
        change.size_bytes = slot->page_count * PAGE;
        change.hva = slot->host_page * PAGE;
        change.flags = slot->flags ^ (uint32_t)rnd_below(rnd, 2);
        change.gpa = rnd_one_in(rnd, 2) ? slot->frame * PAGE : change.gpa;
    }
    if (rnd_one_in(rnd, 4)) {
        change.size_bytes = 0;
    }
    switch (rnd_below(rnd, 60)) {
    case 0:
        change.flags |= 1u << (3 + rnd_below(rnd, 29));
        break;
    case 1:
        change.gpa += 1 + rnd_below(rnd, 4095);
        break;
    case 2:
        change.slot = (uint32_t)rnd_next(rnd) | 0x8000;
        break;
    default:
        break;
    }
    return change;
}

static void check_frames(struct session *session, unsigned space)
{
    for (uint64_t frame = 0; frame < FRAMES + PAGES_MAX; frame++) {
        const struct memslot *found = arch_find(session->arch, space, frame);
        const struct model_slot *expected = NULL;

        for (unsigned id = 0; id < IDS; id++) {
            const struct model_slot *slot = &session->model.slots[space][id];

            if (slot->is_there && frame - slot->frame < slot->page_count) {
                expected = slot;
                assert_non_null(found);
                assert_int_equal(found->id, id);
            }
        }
        if (expected == NULL) {
            assert_null(found);
            continue;
        }
        assert_int_equal(found->base.value, expected->frame);
        assert_int_equal(found->page_count, expected->page_count);
        assert_int_equal(found->hva.value, expected->host_page * PAGE);
        assert_int_equal(found->flags, expected->flags);
        assert_int_equal(found->log != NULL, (expected->flags & MEMSLOT_LOG) != 0);
    }
}

/* How often each id and page was visited. */
struct visits {
    unsigned counts[IDS][PAGES_MAX];
};

static void count_visit(void *opaque, const struct memslot *slot, struct gfn first,
                        uint64_t page_count)
{
    struct visits *visits = opaque;

    for (uint64_t i = 0; i < page_count; i++) {
        visits->counts[slot->id][first.value + i - slot->base.value]++;
    }
}

static void check_host(struct session *session, unsigned space)
{
    uint64_t first = rnd_below(&session->rnd, HOST_PAGES);
    uint64_t end = first + 1 + rnd_below(&session->rnd, 10);
    struct visits visits = {.counts = {{0}}};

    memslots_visit_hva(kcore_slots(&session->arch->core, space), (struct hva){first * PAGE},
                       (end - first) * PAGE, count_visit, &visits);
    for (unsigned id = 0; id < IDS; id++) {
        const struct model_slot *slot = &session->model.slots[space][id];

        for (uint64_t i = 0; i < PAGES_MAX; i++) {
            uint64_t host_page = slot->host_page + i;
            bool expected =
                slot->is_there && i < slot->page_count && host_page >= first && host_page < end;

            assert_int_equal(visits.counts[id][i], expected);
        }
    }
}

/* Mark a page of each logged slot now and then, and harvest one slot now and then. */
static void use_logs(struct session *session)
{
    struct rnd *rnd = &session->rnd;

    for (unsigned i = 0; i < 2 * IDS; i++) {
        struct model_slot *slot = &session->model.slots[i / IDS][i % IDS];
        uint32_t number = (i / IDS) << 16 | i % IDS;
        const struct memslot *found = kcore_slot_by_id(&session->arch->core, number);
        uint64_t word = 0;

        assert_int_equal(found != NULL, slot->is_there);
        if (found == NULL || (slot->flags & MEMSLOT_LOG) == 0) {
            assert_int_equal(kcore_log_get(&session->arch->core, number, &word, 1), -ENOENT);
            continue;
        }
        if (rnd_one_in(rnd, 2)) {
            uint64_t page = rnd_below(rnd, slot->page_count);

            slot->dirty[page] = true;
            assert_true(kcore_mark_dirty(&session->arch->core, NULL, found,
                                         (struct gfn){slot->frame + page}));
        }
        if (rnd_one_in(rnd, 4)) {
            assert_int_equal(kcore_log_get(&session->arch->core, number, &word, 1), 0);
            for (unsigned page = 0; page < PAGES_MAX; page++) {
                assert_int_equal(word >> page & 1, page < slot->page_count && slot->dirty[page]);
                slot->dirty[page] = false;
            }
        }
    }
    (void)arch_said(session->arch);
}

static void run_list(struct session *session)
{
    size_t count = 1 + (rnd_one_in(&session->rnd, 2) ? rnd_below(&session->rnd, LIST_MAX) : 0);
    struct model next = session->model;
    size_t failed = 99;
    size_t at = 0;
    int expected = 0;
    int rc;

    session->named_count = 0;
    next.said[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        session->list[i] = random_change(session);
    }
    for (; at < count && expected == 0; at++) {
        expected = model_change(session, &next, &session->model, &session->list[at]);
    }
    rc = kcore_apply(&session->arch->core, session->list, count, &failed);
    assert_int_equal(rc, expected);
    if (expected != 0) {
        assert_int_equal(failed, at - 1);
    } else {
        assert_int_equal(failed, 99);
        model_finish(session, &next, &session->model);
        session->model = next;
    }
    next.said[next.said[0] != '\0' ? strlen(next.said) - 1 : 0] = '\0';
    assert_string_equal(arch_said(session->arch), next.said);
    assert_int_equal(session->arch->core.generation, session->model.generation);
}

static void kcore_random_lists_agree_with_the_model(void **state)
{
    /* 100,000 lists of up to 8 changes in two address spaces. */
    static struct session session;
    uint64_t lists = rnd_setting("GM_OPERATIONS", 100000);

    (void)state;
    session.arch = arch_open();
    session.rnd.state = rnd_seed("kcore_model");
    session.model.generation = session.arch->core.generation;
    for (uint64_t i = 0; i < lists; i++) {
        run_list(&session);
        check_frames(&session, i % 2);
        check_host(&session, i % 2);
        use_logs(&session);
    }
    arch_close(session.arch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kcore_random_lists_agree_with_the_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
