/* model/guestmodel_walk.c - the guest's translations: the present one, and those that may be cached. */
#include "model/guestmodel.h"
#include "model/require.h"

#define STATES 2048u

/* A table that walks come to, and the rights on the way there. */
struct state {
    uint64_t table;
    bool rw;
    bool us;
    bool xd;
};

/* One level of all walks at once. */
struct states {
    unsigned count;
    struct state items[STATES];
};

static bool is_leaf(const struct sdm_rules *rules, unsigned level, uint64_t entry)
{
    if (level == 1) {
        return true;
    }
    if ((entry & GUEST_PS) == 0 || level > 3) {
        return false;
    }
    switch (rules->state.mode) {
    case SDM_32:
        return rules->state.pse;
    case SDM_PAE:
        return level == 2;
    default:
        return level == 2 || rules->state.has_1g;
    }
}

/* The first byte of the page, or of the table. */
static uint64_t target(const struct guest_vcpu *vcpu, unsigned level, bool leaf, uint64_t entry)
{
    uint64_t address_mask = (UINT64_C(1) << vcpu->address_bits) - 1;

    if (vcpu->entry_bytes == 4) {
        if (!leaf || level == 1) {
            return entry & UINT64_C(0xfffff000);
        }
        return (entry & UINT64_C(0xffc00000)) | (entry >> 13 & 0xff) << 32;
    }
    entry &= address_mask & ~UINT64_C(0xfff);
    return leaf ? entry & ~((UINT64_C(1) << guest_shift(vcpu, level)) - 1) : entry;
}

static uint64_t index_of(const struct guest_vcpu *vcpu, unsigned level, uint64_t linear)
{
    return linear >> guest_shift(vcpu, level) &
           ((UINT64_C(1) << guest_index_bits(vcpu, level)) - 1);
}

static struct state join(const struct state *above, uint64_t entry, uint64_t table)
{
    return (struct state){
        .table = table,
        .rw = above->rw && (entry & GUEST_RW) != 0,
        .us = above->us && (entry & GUEST_US) != 0,
        .xd = above->xd || (entry & GUEST_XD) != 0,
    };
}

static bool is_permitted(const struct sdm_rules *rules, const struct state *state, uint64_t entry,
                         bool *by_key)
{
    *by_key = state->us && rules->key_forbids[entry >> 59 & 15];
    return !*by_key && rules->permitted[state->us][state->rw][state->xd];
}

static bool has_registers_at_top(const struct guest_vcpu *vcpu, unsigned level)
{
    return vcpu->top == 3 && vcpu->entry_bytes == 8 && level == 3;
}

static void fail(struct guest_walk *walk, const struct sdm_rules *rules, uint32_t cause)
{
    walk->outcome = GM_MMU_PAGE_FAULT;
    walk->error_code = rules->error_code | cause;
}

/* One entry. False: the walk has ended. */
static bool step_down(const struct guest_vcpu *vcpu, const struct sdm_rules *rules,
                      struct guest_walk *walk, unsigned level, struct state *state, uint64_t linear)
{
    struct guest_step *step = &walk->steps[walk->count - 1];
    bool in_register = has_registers_at_top(vcpu, level);
    uint64_t entry = step->value;
    bool leaf = is_leaf(rules, level, entry);
    bool by_key;

    if ((entry & GUEST_P) == 0) {
        fail(walk, rules, 0);
        return false;
    }
    if ((entry & rules->reserved[level][leaf]) != 0) {
        fail(walk, rules, 1u | 1u << 3);
        return false;
    }
    if (in_register) {
        state->table = target(vcpu, level, false, entry);
        return true;
    }
    *state = join(state, entry, target(vcpu, level, leaf, entry));
    if (!leaf) {
        step->flags = GUEST_A;
        return true;
    }
    if (!is_permitted(rules, state, entry, &by_key)) {
        fail(walk, rules, 1u | (by_key ? 1u << 5 : 0));
        return false;
    }
    step->flags = GUEST_A | (rules->access.kind == SDM_WRITE ? GUEST_D : 0);
    walk->outcome = GM_MMU_OK;
    walk->page_bytes = UINT64_C(1) << guest_shift(vcpu, level);
    walk->gpa = state->table | (linear & (walk->page_bytes - 1));
    return false;
}

void guest_walk_now(const struct guestmodel *model, const struct guest_vcpu *vcpu,
                    enum gm_mmu_access kind, enum gm_mmu_view view, uint64_t linear,
                    struct guest_walk *walk)
{
    const struct sdm_rules *rules = &vcpu->rules[kind][view];
    const struct guest_root *root = &vcpu->roots[vcpu->current];
    struct state state = {root->gpa, true, true, false};

    *walk = (struct guest_walk){.outcome = GM_MMU_PROTECTION};
    if (!guest_is_canonical(vcpu, linear)) {
        return;
    }
    if (!vcpu->is_paging) {
        walk->outcome = GM_MMU_OK;
        walk->gpa = linear & UINT32_MAX;
        walk->page_bytes = GUEST_PAGE;
        return;
    }
    for (unsigned level = vcpu->top;; level--) {
        uint64_t index = index_of(vcpu, level, linear);
        uint64_t gpa = state.table + index * vcpu->entry_bytes;
        uint64_t offset = guest_memory_offset(&model->memory, gpa);
        struct guest_step *step = &walk->steps[walk->count++];

        *step = (struct guest_step){.gpa = gpa};
        if (has_registers_at_top(vcpu, level)) {
            step->gpa = GUEST_NOWHERE;
            step->value = root->pdptes[index];
        } else if (offset == GUEST_NOWHERE) {
            walk->count--;
            walk->outcome = GM_MMU_TABLE_LOST;
            walk->gpa = gpa;
            return;
        } else {
            step->value = guest_memory_load(&model->memory, offset, vcpu->entry_bytes);
        }
        if (!step_down(vcpu, rules, walk, level, &state, linear)) {
            return;
        }
    }
}

/* ---- what may be cached ---- */

/* The moments since when values of entries count. */
struct moments {
    uint64_t tables; /* of entries that lead to tables, and of pages that are not global */
    uint64_t sizes[SDM_LEVELS];   /* of leaves, by level: at least that */
    uint64_t globals[SDM_LEVELS]; /* of global ones */
    bool only_global;
};

struct search {
    const struct guestmodel *model;
    const struct guest_vcpu *vcpu;
    const struct sdm_rules *rules;
    uint64_t linear;
    struct moments moments;
    struct guest_candidates *found;
    struct states *next;
};

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* 4.10.4.1. Of the present PCID; then of global translations, that other PCIDs may have made. */
static void find_moments(struct search *search, bool only_global)
{
    const struct guest_vcpu *vcpu = search->vcpu;
    struct moments *moments = &search->moments;
    unsigned promises = search->model->promises;
    uint64_t count = vcpu->flush_count < GUEST_FLUSHES ? vcpu->flush_count : GUEST_FLUSHES;

    *moments = (struct moments){.tables = vcpu->all_flushed, .only_global = only_global};
    if (!only_global) {
        moments->tables = later(vcpu->all_flushed, vcpu->pcid_flushed[vcpu->pcid]);
    }
    for (uint64_t i = 0; i < count; i++) {
        const struct guest_flush *flush = &vcpu->flushes[i];
        bool is_mine = flush->pcid == vcpu->pcid;

        for (unsigned level = 1; level <= vcpu->top && level <= 3; level++) {
            unsigned shift = (promises & GUEST_PROMISE_LARGE) != 0 ? guest_shift(vcpu, level) : 12;

            if (flush->linear >> shift != search->linear >> shift) {
                continue;
            }
            if (is_mine) {
                moments->sizes[level] = later(moments->sizes[level], flush->time);
            }
            if (!flush->is_fault && (is_mine || (promises & GUEST_PROMISE_GLOBAL) != 0)) {
                moments->globals[level] = later(moments->globals[level], flush->time);
            }
        }
    }
    if (!only_global) {
        moments->tables = later(moments->tables, moments->sizes[1]);
    }
}

static void add_state(struct states *states, const struct state *state)
{
    for (unsigned i = 0; i < states->count; i++) {
        const struct state *other = &states->items[i];

        if (other->table == state->table && other->rw == state->rw && other->us == state->us &&
            other->xd == state->xd) {
            return;
        }
    }
    REQUIRE(states->count < STATES, "too many walks");
    states->items[states->count++] = *state;
}

static void add_candidate(struct guest_candidates *candidates, uint64_t gpa)
{
    for (unsigned i = 0; i < candidates->count; i++) {
        if (candidates->gpas[i] == gpa) {
            return;
        }
    }
    REQUIRE(candidates->count < GUEST_CANDIDATES, "too many candidates");
    candidates->gpas[candidates->count++] = gpa;
}

/* A value that a leaf had until @end: may a translation by it be cached, and is it good for the access? */
static bool is_cached_leaf(const struct search *search, unsigned level, const struct state *state,
                           uint64_t entry, uint64_t end)
{
    const struct moments *moments = &search->moments;
    bool is_global = (entry & GUEST_G) != 0 && (search->vcpu->registers.cr4 & GUEST_CR4_PGE) != 0;
    bool by_key;

    if (moments->only_global && (!is_global || end <= moments->globals[level])) {
        return false;
    }
    if (!moments->only_global && end <= moments->sizes[level]) {
        return false;
    }
    if (!moments->only_global && is_global && end <= moments->globals[level]) {
        return false;
    }
    if (search->rules->access.kind == SDM_WRITE && (entry & GUEST_D) == 0) {
        return false; /* a write looks at the tables again, to set the flag */
    }
    return is_permitted(search->rules, state, entry, &by_key);
}

static void follow(struct search *search, unsigned level, const struct state *above, uint64_t entry,
                   uint64_t end)
{
    const struct guest_vcpu *vcpu = search->vcpu;
    bool in_register = has_registers_at_top(vcpu, level);
    bool leaf = is_leaf(search->rules, level, entry);
    struct state state;

    if ((entry & GUEST_P) == 0 || (entry & search->rules->reserved[level][leaf]) != 0) {
        return;
    }
    if (!in_register && (entry & GUEST_A) == 0) {
        return; /* 4.10.2.3: nothing is cached before the flag is set */
    }
    state = in_register ? *above : join(above, entry, 0);
    state.table = target(vcpu, level, leaf, entry);
    if (!leaf) {
        add_state(search->next, &state);
    } else if (is_cached_leaf(search, level, &state, entry, end)) {
        uint64_t mask = (UINT64_C(1) << guest_shift(vcpu, level)) - 1;

        add_candidate(search->found, state.table | (search->linear & mask));
    }
}

static void search_table(struct search *search, unsigned level, const struct state *state)
{
    const struct guest_vcpu *vcpu = search->vcpu;
    uint64_t index = index_of(vcpu, level, search->linear);
    uint64_t offset = guest_memory_place(state->table + index * vcpu->entry_bytes);
    unsigned cursor = 0;
    uint64_t value;
    uint64_t end;

    if (offset == GUEST_NOWHERE) {
        return;
    }
    while (guest_memory_value(&search->model->memory, offset, vcpu->entry_bytes,
                              search->moments.tables, &cursor, &value, &end)) {
        follow(search, level, state, value, end);
    }
}

static void search_all(struct search *search)
{
    static struct states levels[2];
    const struct guest_vcpu *vcpu = search->vcpu;
    struct states *now = &levels[0];
    unsigned level = vcpu->top;

    search->next = now;
    now->count = 0;
    for (unsigned i = 0; i < vcpu->root_count; i++) {
        const struct guest_root *root = &vcpu->roots[i];
        const struct state start = {root->gpa, true, true, false};

        if (root->end <= search->moments.tables ||
            (root->pcid != vcpu->pcid && !search->moments.only_global)) {
            continue;
        }
        if (has_registers_at_top(vcpu, level)) {
            follow(search, level, &start, root->pdptes[index_of(vcpu, level, search->linear)],
                   UINT64_MAX);
        } else {
            add_state(now, &start);
        }
    }
    for (level -= has_registers_at_top(vcpu, level) ? 1 : 0; level > 0; level--) {
        search->next = now == &levels[0] ? &levels[1] : &levels[0];
        search->next->count = 0;
        for (unsigned i = 0; i < now->count; i++) {
            search_table(search, level, &now->items[i]);
        }
        now = search->next;
    }
}

void guest_walk_cached(const struct guestmodel *model, const struct guest_vcpu *vcpu,
                       enum gm_mmu_access kind, enum gm_mmu_view view, uint64_t linear,
                       struct guest_candidates *candidates)
{
    struct search search = {.model = model,
                            .vcpu = vcpu,
                            .rules = &vcpu->rules[kind][view],
                            .linear = linear,
                            .found = candidates};

    candidates->count = 0;
    if (!vcpu->is_paging || !guest_is_canonical(vcpu, linear)) {
        return;
    }
    find_moments(&search, false);
    search_all(&search);
    if ((vcpu->registers.cr4 & GUEST_CR4_PGE) != 0) {
        find_moments(&search, true);
        search_all(&search);
    }
}
