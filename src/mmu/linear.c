/*
 * mmu/linear.c - linear addresses: contexts, and the guest's tables as the walker reads them.
 *
 * Entries of the guest's tables are read as the processor reads them: through EPT, in guest mode. With EPT's
 * accessed and dirty flags each such read counts as a write (Intel SDM 3C, "Accessed and Dirty Flags for EPT"),
 * but for tables in read-only memory, whose flags are only read: there KVM's emulator would help out.
 */
#include "mmu/linear.h"

#include "base/point.h"
#include "mmu/access.h"
#include "mmu/guest.h"
#include "mmu/tlb.h"
#include "mmu/walk.h"

#include <errno.h>

#define CR3_KEEP (UINT64_C(1) << 63) /* with PCIDs: this context's translations may be kept */
#define CR3_PCID UINT64_C(0xfff)
#define CR3_PAE_TABLE UINT64_C(0xffffffe0)
#define CR4_PCIDE (UINT64_C(1) << 17)
#define MAXPHYADDR_DEFAULT 52u

static struct paging_state state_of(const struct gm_mmu_paging *registers)
{
    return (struct paging_state){
        .cr0 = registers->cr0,
        .cr3 = registers->cr3 & ~CR3_KEEP,
        .cr4 = registers->cr4,
        .efer = registers->efer,
        .pkru = registers->pkru,
        .maxphyaddr = registers->maxphyaddr != 0 ? registers->maxphyaddr : MAXPHYADDR_DEFAULT,
        .has_1g_pages = registers->has_1g_pages,
        .has_pse36 = registers->has_pse36,
    };
}

void linear_init(struct linear *linear)
{
    const struct gm_mmu_paging off = {0};
    const struct paging_state state = state_of(&off);
    struct linear_mode *mode = &linear->modes[PAGING_NONE];

    mode->is_made = true;
    paging_compute(&mode->paging, &state);
    linear->mode = PAGING_NONE;
    linear->paging = &mode->paging;
    linear->contexts[0].is_used = true;
    linear->large_first = UINT64_MAX;
}

/* The guest's tables, for one walk. */
struct tables_view {
    struct mmu_vcpu *vcpu;
    bool is_passive;      /* nothing of the guest is written, nor marked */
    unsigned lost_races;  /* entries that were others' by when their flags were to be set */
    enum settled settled; /* why the walk stopped */
};

/* Remember that the entry's page is read-only, so that the next try only reads. */
static void note_refusal(struct linear *linear, const struct access_part *part)
{
    if (part->refused_generation == 0) {
        return;
    }
    if (linear->refused_generation != part->refused_generation) {
        linear->refused_generation = part->refused_generation;
        linear->refused_count = 0;
    }
    linear->refused_gpas[linear->refused_count % LINEAR_REFUSED_MAX] =
        align_down(part->gpa, PAGE_BYTES_4K);
    linear->refused_count++;
}

static bool is_refused(const struct mmu_vcpu *vcpu, uint64_t gpa)
{
    const struct linear *linear = &vcpu->linear;

    if (linear->refused_generation != vcpu->space_generation) {
        return false;
    }
    for (unsigned i = 0; i < LINEAR_REFUSED_MAX && i < linear->refused_count; i++) {
        if (linear->refused_gpas[i] == align_down(gpa, PAGE_BYTES_4K)) {
            return true;
        }
    }
    return false;
}

/* The host address of an entry; NULL: the walk stops. *kind: of the page, PART_TRACKED to be told of. */
static uint8_t *entry_host(struct tables_view *view, uint64_t gpa, enum gm_mmu_access access,
                           enum part_kind *kind)
{
    struct mmu_vcpu *vcpu = view->vcpu;
    struct access_part part = {.gpa = gpa, .size_bytes = 4};
    uint64_t rights = 0;

    part.host = gm_tlb_hit(&vcpu->face, vcpu->face.tag, gpa, 4, access);
    *kind = PART_MEMORY;
    if (part.host != NULL) {
        return part.host;
    }
    view->settled = mmu_access_settle_page(vcpu, &part, access, &rights);
    note_refusal(&vcpu->linear, &part);
    if (view->settled != SETTLED) {
        return NULL;
    }
    if (part.kind == PART_MMIO) {
        view->settled = mmu_access_end(vcpu, GM_MMU_TABLE_LOST, &part);
        return NULL;
    }
    tlb_fill(vcpu, vcpu->face.tag, gpa, part.host, rights);
    *kind = part.kind;
    return part.host;
}

static enum guestmem_result table_load(void *opaque, uint64_t gpa, unsigned size_bytes,
                                       uint64_t *value)
{
    struct tables_view *view = opaque;
    /* KVM reads the tables that it shadows: no processor does. */
    bool reads_only =
        view->is_passive || view->vcpu->mmu->shadow.is_on || is_refused(view->vcpu, gpa);
    enum part_kind kind;
    const uint8_t *host = entry_host(view, gpa, reads_only ? GM_MMU_READ : GM_MMU_WRITE, &kind);

    if (host == NULL) {
        return GUESTMEM_STOP;
    }
    *value = gm_host_load(host, size_bytes);
    GM_POINT("guest-entry-read");
    return GUESTMEM_OK;
}

/*
 * Somebody has replaced the entry since it was read: the walk begins anew, as with any compare-and-swap. Who does so all the
 * time (a peer that shares the memory is stopped by no hold) keeps the vCPU from getting on, but nobody from stopping the vCPU.
 */
static enum guestmem_result lose_race(struct tables_view *view, uint64_t gpa, unsigned size_bytes)
{
    const struct access_part part = {.gpa = gpa, .size_bytes = size_bytes};

    view->lost_races++;
    if (view->lost_races < LINEAR_RACES_MAX) {
        return GUESTMEM_AGAIN;
    }
    guest_leave(view->vcpu);
    view->settled = mmu_access_come_again(view->vcpu, &part);
    return GUESTMEM_STOP;
}

/*
 * A flag was set in an entry of a tracked page: mark it, and tell, which takes leaving guest mode. Shadow pages
 * of the table need not be told: what they say is as right as before.
 */
static enum guestmem_result tell_of_entry(struct tables_view *view, uint64_t gpa,
                                          unsigned size_bytes)
{
    struct mmu_vcpu *vcpu = view->vcpu;
    const struct access_part part = {.gpa = gpa, .size_bytes = size_bytes, .kind = PART_TRACKED};

    mmu_access_mark_part(vcpu, &part);
    if (!mmu_is_tracked(vcpu->mmu, vcpu->space, gfn_of(gpa))) {
        return GUESTMEM_OK;
    }
    guest_leave(vcpu);
    mmu_access_tell_part(vcpu, &part);
    view->settled =
        guest_enter_again(vcpu) ? SETTLE_AGAIN : mmu_access_end(vcpu, GM_MMU_RESTART, &part);
    return GUESTMEM_STOP;
}

static enum guestmem_result table_replace(void *opaque, uint64_t gpa, unsigned size_bytes,
                                          uint64_t expected, uint64_t value)
{
    struct tables_view *view = opaque;
    uint64_t seen = expected;
    enum part_kind kind;
    uint8_t *host;

    if (is_refused(view->vcpu, gpa)) {
        return GUESTMEM_OK; /* nobody can set flags there */
    }
    host = entry_host(view, gpa, GM_MMU_WRITE, &kind);
    if (host == NULL) {
        return GUESTMEM_STOP;
    }
    mmu_exchange_aligned(host, size_bytes, &seen, value);
    if (seen != expected) {
        return lose_race(view, gpa, size_bytes);
    }
    return kind == PART_TRACKED ? tell_of_entry(view, gpa, size_bytes) : GUESTMEM_OK;
}

unsigned linear_access_flags(enum gm_mmu_access kind, enum gm_mmu_view view)
{
    unsigned flags = 0;

    flags |= kind == GM_MMU_WRITE ? PAGING_WRITE : 0;
    flags |= kind == GM_MMU_FETCH ? PAGING_FETCH : 0;
    flags |= view == GM_MMU_USER ? PAGING_USER : 0;
    flags |= view == GM_MMU_SUPERVISOR_AC ? PAGING_AC : 0;
    return flags;
}

unsigned linear_rights(const struct paging *paging, enum gm_mmu_view view, unsigned rights,
                       unsigned key)
{
    static const enum gm_mmu_access kinds[] = {GM_MMU_READ, GM_MMU_WRITE, GM_MMU_FETCH};
    unsigned allowed = 0;

    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (paging_refusal(paging, linear_access_flags(kinds[i], view), rights, key) == 0) {
            allowed |= (unsigned)entry_right_of(kinds[i]);
        }
    }
    return allowed;
}

enum settled linear_walk(struct mmu_vcpu *vcpu, struct access_part *part, struct guestwalk *walk)
{
    const struct access *access = &vcpu->access;
    struct tables_view view = {.vcpu = vcpu, .settled = SETTLED};
    const struct guestmem memory = {table_load, table_replace, &view};
    const struct guestwalk_request request = {
        part->linear, linear_access_flags(access->kind, access->view), GUESTWALK_SET_FLAGS};

    switch (guest_walk(vcpu->linear.paging, &memory, &request, walk)) {
    case GUESTWALK_OK:
        part->gpa = walk->gpa;
        break;
    case GUESTWALK_FAULT:
        vcpu->exit.error_code = walk->error_code;
        /* What is cached for the page goes with a page fault (SDM 3A 4.10.4.1). */
        gm_mmu_invlpg(&vcpu->face, part->linear);
        return mmu_access_end(vcpu, GM_MMU_PAGE_FAULT, part);
    case GUESTWALK_STOP:
        if (view.settled == ENDED && vcpu->exit.outcome == GM_MMU_TABLE_LOST) {
            vcpu->exit.linear = part->linear;
            vcpu->exit.error_code = vcpu->linear.paging->errors[request.access];
        }
        return view.settled;
    }
    return SETTLED;
}

enum settled linear_translate(struct mmu_vcpu *vcpu, struct access_part *part, unsigned *rights)
{
    const struct paging *paging = vcpu->linear.paging;
    enum settled settled;
    struct guestwalk walk;

    if (!paging_is_canonical(paging, part->linear)) {
        return mmu_access_end(vcpu, GM_MMU_PROTECTION, part);
    }
    settled = linear_walk(vcpu, part, &walk);
    if (settled == SETTLED) {
        *rights = linear_rights(paging, vcpu->access.view, walk.rights, walk.key);
        if (!walk.is_dirty) {
            *rights &= ~(unsigned)EPT_WRITE; /* the next write walks, and sets the flag */
        }
        if (walk.page_shift > PAGE_SHIFT_4K) {
            tlb_note_large(vcpu, part->linear, walk.page_shift);
        }
    }
    return settled;
}

/* PAE: the four entries that CR3 leads to, or others. Not GM_MMU_OK: guest mode has been left. */
static enum gm_mmu_outcome load_pdptes(struct mmu_vcpu *vcpu, struct paging *paging,
                                       const struct gm_mmu_paging *registers)
{
    uint64_t cr3 = registers->cr3;
    const struct access_part nowhere = {.linear = cr3, .gpa = cr3 & CR3_PAE_TABLE};

    if (registers->pdptes != NULL) {
        memcpy(paging->pdptes, registers->pdptes, sizeof(paging->pdptes));
    }
    for (unsigned i = 0; i < 4 && registers->pdptes == NULL; i++) {
        uint64_t gpa = (cr3 & CR3_PAE_TABLE) + i * sizeof(paging->pdptes[0]);
        enum gm_mmu_outcome outcome = gm_mmu_load(&vcpu->face, gpa, 8, &paging->pdptes[i]);

        if (outcome == GM_MMU_MMIO) {
            vcpu->access.is_waiting = false;
            vcpu->exit.outcome = GM_MMU_TABLE_LOST;
            return GM_MMU_TABLE_LOST;
        }
        if (outcome != GM_MMU_OK) {
            return outcome;
        }
    }
    if (!paging_pdptes_are_valid(paging, paging->pdptes)) {
        (void)mmu_access_end(vcpu, GM_MMU_PROTECTION, &nowhere);
        return GM_MMU_PROTECTION;
    }
    return GM_MMU_OK;
}

/* Do the same tables translate in the same way by both? Keys' rights apart: translations have the keys. */
static bool is_same_mode(const struct gm_mmu_paging *a, const struct gm_mmu_paging *b)
{
    return a->cr0 == b->cr0 && a->cr4 == b->cr4 && a->efer == b->efer &&
           a->maxphyaddr == b->maxphyaddr && a->has_1g_pages == b->has_1g_pages &&
           a->has_pse36 == b->has_pse36;
}

/* The context of @cr3 becomes the present one. Return: is what the TLB has for it usable? */
static bool switch_context(struct linear *linear, uint64_t cr3)
{
    struct linear_context *context;

    for (unsigned i = 0; i < LINEAR_CONTEXTS; i++) {
        if (linear->contexts[i].is_used && linear->contexts[i].cr3 == cr3) {
            linear->current = i;
            return linear->contexts[i].has_tags;
        }
    }
    linear->newest = (linear->newest + 1) % LINEAR_CONTEXTS;
    if (linear->newest == linear->current) {
        linear->newest = (linear->newest + 1) % LINEAR_CONTEXTS;
    }
    linear->current = linear->newest;
    context = &linear->contexts[linear->current];
    shadow_root_put(&context->root);
    context->is_used = true;
    context->cr3 = cr3;
    return false;
}

/* The guest flushes all contexts. */
static void flush_all_contexts(struct mmu_vcpu *vcpu)
{
    tlb_flush_linear(vcpu);
    for (unsigned i = 0; i < LINEAR_CONTEXTS; i++) {
        shadow_note_flush(&vcpu->linear.contexts[i].root);
    }
}

/* The guest flushes the contexts that have @cr3's PCID, under whatever root. */
static void flush_pcid(struct mmu_vcpu *vcpu, uint64_t cr3)
{
    for (unsigned i = 0; i < LINEAR_CONTEXTS; i++) {
        struct linear_context *context = &vcpu->linear.contexts[i];

        if (((context->cr3 ^ cr3) & CR3_PCID) == 0) {
            context->has_tags = false;
            shadow_note_flush(&context->root);
        }
    }
}

/* The registers count from here on. */
static void put_in_force(struct mmu_vcpu *vcpu, enum paging_mode mode,
                         const struct gm_mmu_paging *registers)
{
    struct linear *linear = &vcpu->linear;
    const struct gm_mmu_paging *before = &linear->modes[linear->mode].registers;
    bool has_pcids = (registers->cr4 & CR4_PCIDE) != 0 && mode >= PAGING_4;
    bool may_keep = has_pcids && (registers->cr3 & CR3_KEEP) != 0;
    bool is_kept;

    if (!is_same_mode(before, registers)) {
        flush_all_contexts(vcpu);
    } else if (before->pkru != registers->pkru) {
        tlb_flush_linear(vcpu);
    }
    linear->mode = mode;
    linear->modes[mode].registers = *registers;
    linear->modes[mode].registers.pdptes = NULL;
    linear->paging = &linear->modes[mode].paging;
    is_kept = switch_context(linear, registers->cr3 & ~CR3_KEEP);
    if (!may_keep && has_pcids) {
        flush_pcid(vcpu, registers->cr3);
    } else if (!may_keep) {
        shadow_note_flush(&linear->contexts[linear->current].root);
    }
    if (!is_kept || !may_keep) {
        tlb_flush_context(vcpu);
    }
    tlb_publish_tags(vcpu);
}

enum gm_mmu_outcome gm_mmu_set_paging(struct gm_mmu *mmu, const struct gm_mmu_paging *registers)
{
    struct mmu_vcpu *vcpu = mmu_vcpu_of(mmu);
    const struct paging_state state = state_of(registers);
    enum paging_mode mode = paging_mode_of(&state);
    struct linear_mode *kept = &vcpu->linear.modes[mode];
    struct paging next = kept->paging;

    if (!vcpu->base.in_guest) {
        return mmu_access_fail(vcpu, -EINVAL);
    }
    if (kept->is_made && is_same_mode(&kept->registers, registers)) {
        paging_set_root(&next, &state);
    } else {
        paging_compute(&next, &state);
    }
    if (mode == PAGING_PAE) {
        enum gm_mmu_outcome outcome = load_pdptes(vcpu, &next, registers);

        if (outcome != GM_MMU_OK) {
            return outcome;
        }
    }
    kept->is_made = true;
    kept->paging = next;
    put_in_force(vcpu, mode, registers);
    return GM_MMU_OK;
}

void linear_forget(struct mmu_vcpu *vcpu)
{
    struct linear *linear = &vcpu->linear;

    for (unsigned i = 0; i < LINEAR_CONTEXTS; i++) {
        shadow_root_put(&linear->contexts[i].root);
        linear->contexts[i].is_used = i == linear->current;
    }
    tlb_flush_linear(vcpu);
}

void gm_mmu_get_paging(struct gm_mmu *mmu, struct gm_mmu_paging *paging)
{
    const struct linear *linear = &mmu_vcpu_of(mmu)->linear;

    *paging = linear->modes[linear->mode].registers;
}

bool gm_mmu_get_pdptes(struct gm_mmu *mmu, uint64_t pdptes[4])
{
    const struct paging *paging = mmu_vcpu_of(mmu)->linear.paging;
    bool is_pae = paging->mode == PAGING_PAE;

    memset(pdptes, 0, PAGING_PDPTE_COUNT * sizeof(pdptes[0]));
    if (is_pae) {
        memcpy(pdptes, paging->pdptes, sizeof(paging->pdptes));
    }
    return is_pae;
}

void gm_mmu_invlpg(struct gm_mmu *mmu, uint64_t linear)
{
    struct mmu_vcpu *vcpu = mmu_vcpu_of(mmu);

    tlb_flush_linear_page(vcpu, linear);
    if (vcpu->mmu->shadow.is_on) {
        shadow_note_invlpg(vcpu, linear);
    }
}

void gm_mmu_flush_all(struct gm_mmu *mmu)
{
    struct mmu_vcpu *vcpu = mmu_vcpu_of(mmu);

    for (unsigned space = 0; space < KCORE_SPACES; space++) {
        tlb_flush_space(vcpu, space);
    }
    flush_all_contexts(vcpu);
}

static void fill_in(struct gm_mmu_translation *translation, const struct guestwalk *walk,
                    const struct paging *paging)
{
    translation->gpa = walk->gpa;
    translation->page_bytes = UINT64_C(1) << walk->page_shift;
    translation->error_code = walk->error_code;
    translation->is_writable = (walk->rights & PAGING_RIGHT_WRITE) != 0;
    translation->is_for_user = (walk->rights & PAGING_RIGHT_USER) != 0;
    translation->is_executable = (walk->rights & PAGING_RIGHT_EXECUTE) != 0;
    for (unsigned level = paging->level_count; level >= walk->depth && level > 0; level--) {
        translation->entries[translation->depth] = walk->entries[level];
        translation->entry_gpas[translation->depth] = walk->entry_gpas[level];
        translation->depth++;
    }
}

enum gm_mmu_outcome gm_mmu_explain(struct gm_mmu *mmu, uint64_t linear, enum gm_mmu_access access,
                                   enum gm_mmu_view view, struct gm_mmu_translation *translation)
{
    struct mmu_vcpu *vcpu = mmu_vcpu_of(mmu);
    const struct paging *paging = vcpu->linear.paging;
    struct tables_view tables = {.vcpu = vcpu, .is_passive = true};
    const struct guestmem memory = {table_load, table_replace, &tables};
    const struct guestwalk_request request = {linear, linear_access_flags(access, view), 0};
    enum guestwalk_result result;
    struct guestwalk walk;

    *translation = (struct gm_mmu_translation){.level_count = paging->level_count};
    if (!vcpu->base.in_guest) {
        translation->outcome = mmu_access_fail(vcpu, -EINVAL);
        return translation->outcome;
    }
    if (!paging_is_canonical(paging, linear)) {
        translation->outcome = GM_MMU_PROTECTION;
        return GM_MMU_PROTECTION;
    }
    do {
        tables.settled = SETTLED;
        result = guest_walk(paging, &memory, &request, &walk);
    } while (result == GUESTWALK_STOP && tables.settled == SETTLE_AGAIN);
    fill_in(translation, &walk, paging);
    switch (result) {
    case GUESTWALK_OK:
        translation->outcome = GM_MMU_OK;
        break;
    case GUESTWALK_FAULT:
        translation->outcome = GM_MMU_PAGE_FAULT;
        break;
    case GUESTWALK_STOP:
        translation->outcome = vcpu->exit.outcome;
        break;
    }
    return translation->outcome;
}
