/* mmu/shadow_root.c - where a vCPU's walks begin: roots of its contexts, and what the guest has flushed. */
#include "mmu/shadow_page.h"

#include "base/check.h"
#include "mmu/guest.h"
#include "mmu/walk.h"

#include <sched.h>

static struct shadow_root *present_root(const struct mmu_vcpu *vcpu)
{
    const struct linear *linear = &vcpu->linear;

    return (struct shadow_root *)&linear->contexts[linear->current].root;
}

/* Modes of two levels, and PAE, have an entry for each GiB in the vCPU. */
static bool has_quarters(const struct paging *paging)
{
    return paging->mode == PAGING_32 || paging->mode == PAGING_PAE;
}

static unsigned root_index(const struct paging *paging, uint64_t linear)
{
    return has_quarters(paging) ? (unsigned)(linear >> level_shift(3)) % SHADOW_ROOTS : 0;
}

/* Where the guest's table of a root page lies. */
static struct gfn guest_root(const struct paging *paging, unsigned index)
{
    if (paging->mode == PAGING_PAE) {
        return gfn_of(paging->pdptes[index] & paging->address_mask);
    }
    return gfn_of(paging->root);
}

/* An absent PDPTE leads nowhere, whatever address it holds. */
static bool has_guest_root(const struct paging *paging, unsigned index)
{
    return paging->mode != PAGING_PAE || (paging->pdptes[index] & PAGING_PRESENT) != 0;
}

struct shadow_page *shadow_root_page(const struct mmu_vcpu *vcpu, uint64_t linear)
{
    return present_root(vcpu)->pages[root_index(vcpu->linear.paging, linear)];
}

static bool is_obsolete(const struct shadow *shadow, const struct shadow_root *root)
{
    return root->generation != atomic_load_explicit(&shadow->generation, memory_order_relaxed);
}

bool shadow_root_is_due(const struct mmu_vcpu *vcpu)
{
    const struct shadow_root *root = present_root(vcpu);

    if (root->needs_sync || vcpu->shadow.invlpg_count != 0 ||
        is_obsolete(&vcpu->mmu->shadow, root)) {
        return true;
    }
    for (unsigned i = 0; i < SHADOW_ROOTS; i++) {
        if (root->pages[i] != NULL && atomic_load(&root->pages[i]->is_invalid)) {
            return true;
        }
    }
    return false;
}

static void put_page(struct shadow_root *root, unsigned index)
{
    struct shadow_page *page = root->pages[index];

    root->pages[index] = NULL;
    if (page != NULL) {
        atomic_fetch_sub(&page->root_count, 1);
    }
}

void shadow_root_put(struct shadow_root *root)
{
    for (unsigned i = 0; i < SHADOW_ROOTS; i++) {
        put_page(root, i);
    }
}

void shadow_note_flush(struct shadow_root *root)
{
    root->needs_sync = true;
}

void shadow_note_invlpg(struct mmu_vcpu *vcpu, uint64_t linear)
{
    struct shadow_vcpu *shadow = &vcpu->shadow;

    if (shadow->invlpg_count == SHADOW_INVLPGS) {
        /* More than are worth looking at one by one. */
        for (unsigned i = 0; i < LINEAR_CONTEXTS; i++) {
            shadow_note_flush(&vcpu->linear.contexts[i].root);
        }
        shadow->invlpg_count = 0;
        return;
    }
    shadow->invlpgs[shadow->invlpg_count] = linear;
    shadow->invlpg_count++;
}

static bool is_same_format(const struct shadow_format *format, const struct paging *paging)
{
    return format->mode == paging->mode && format->entry_bytes == paging->entry_bytes &&
           format->address_mask == paging->address_mask &&
           memcmp(format->levels, paging->levels, sizeof(format->levels)) == 0;
}

/* The number of the present mode's format. All pages go if there are too many. */
static unsigned need_format(struct shadow_work *work, const struct paging *paging)
{
    struct shadow *shadow = &work->mmu->shadow;
    struct shadow_format *format;

    for (unsigned i = 0; i < shadow->format_count; i++) {
        if (is_same_format(&shadow->formats[i], paging)) {
            return i;
        }
    }
    if (shadow->format_count == SHADOW_FORMATS_MAX) {
        while (shadow->oldest != NULL) {
            shadow_zap(work, shadow->oldest);
        }
        shadow->format_count = 0;
    }
    format = &shadow->formats[shadow->format_count];
    format->mode = paging->mode;
    format->entry_bytes = paging->entry_bytes;
    format->address_mask = paging->address_mask;
    memcpy(format->levels, paging->levels, sizeof(format->levels));
    shadow->format_count++;
    return shadow->format_count - 1;
}

static struct shadow_role root_role(const struct mmu_vcpu *vcpu, unsigned format, unsigned index)
{
    const struct paging *paging = vcpu->linear.paging;

    return (struct shadow_role){
        .level = has_quarters(paging) ? 2 : paging->level_count,
        .space = (uint8_t)vcpu->space,
        .format = (uint8_t)format,
        .quadrant = paging->mode == PAGING_32 ? (uint8_t)index : 0,
        .rights = PAGING_RIGHTS_ALL,
    };
}

/* Is the root page what the present registers lead to? */
static bool is_present(const struct mmu_vcpu *vcpu, unsigned index, const struct shadow_page *page)
{
    const struct paging *paging = vcpu->linear.paging;
    const struct shadow_format *format = &vcpu->mmu->shadow.formats[page->role.format];
    struct shadow_role role = root_role(vcpu, page->role.format, index);

    return has_guest_root(paging, index) && !atomic_load(&page->is_invalid) &&
           is_same_format(format, paging) && page->gfn.value == guest_root(paging, index).value &&
           memcmp(&role, &page->role, sizeof(role)) == 0;
}

/* Bring what one INVLPG names in step, below one root page. Tables above the lowest level always are. */
static void invlpg_below(struct shadow_work *work, struct shadow_page *page, uint64_t linear)
{
    struct gfn gfn = gfn_of(linear);

    while (page->role.level > 1) {
        page = shadow_child(page, level_index(page->role.level, gfn));
        if (page == NULL) {
            return;
        }
    }
    if (page->is_unsync) {
        shadow_sync_entry(work, page, level_index(1, gfn));
    }
}

/* Contexts of other modes may take another of four roots; their pages come to be looked at all the same. */
static void invlpg(struct shadow_work *work, struct mmu_vcpu *vcpu, uint64_t linear)
{
    for (unsigned i = 0; i < LINEAR_CONTEXTS; i++) {
        struct shadow_root *root = &vcpu->linear.contexts[i].root;

        for (unsigned index = 0; index < SHADOW_ROOTS; index++) {
            if (root->pages[index] != NULL && !atomic_load(&root->pages[index]->is_invalid)) {
                invlpg_below(work, root->pages[index], linear);
            }
        }
    }
}

/* A write that the guest may have seen by now has not reached the tables yet: it will, soon. */
static void wait_for_writers(struct shadow *shadow)
{
    while (atomic_load(&shadow->writers) != 0) {
        sched_yield();
    }
}

void shadow_root_refresh(struct mmu_vcpu *vcpu)
{
    struct shadow *shadow = &vcpu->mmu->shadow;
    struct shadow_root *root = present_root(vcpu);
    struct retired retired = {0};
    struct shadow_work work;
    bool all_go;

    wait_for_writers(shadow);
    work = shadow_work_begin(vcpu->mmu, &retired);
    all_go = is_obsolete(shadow, root);

    for (unsigned i = 0; i < SHADOW_ROOTS; i++) {
        if (root->pages[i] != NULL && (all_go || !is_present(vcpu, i, root->pages[i]))) {
            put_page(root, i);
        }
        if (root->pages[i] != NULL && root->needs_sync) {
            shadow_sync_tree(&work, root->pages[i]);
        }
    }
    for (unsigned i = 0; i < vcpu->shadow.invlpg_count; i++) {
        invlpg(&work, vcpu, vcpu->shadow.invlpgs[i]);
    }
    root->generation = atomic_load_explicit(&shadow->generation, memory_order_relaxed);
    root->needs_sync = false;
    vcpu->shadow.invlpg_count = 0;
    shadow_work_end(&work);
}

enum shadow_get shadow_root_get(struct shadow_work *work, struct mmu_vcpu *vcpu, uint64_t linear,
                                const uint8_t *guest_table, struct shadow_page **page)
{
    const struct paging *paging = vcpu->linear.paging;
    unsigned index = root_index(paging, linear);
    struct shadow_root *root = present_root(vcpu);
    struct shadow_role role;
    enum shadow_get got;

    *page = root->pages[index];
    if (*page != NULL) {
        return SHADOW_GOT;
    }
    role = root_role(vcpu, need_format(work, paging), index);
    got = shadow_page_get(work, vcpu, guest_root(paging, index), &role, guest_table, page);
    if (got == SHADOW_GOT) {
        atomic_fetch_add(&(*page)->root_count, 1);
        root->pages[index] = *page;
    }
    return got;
}
