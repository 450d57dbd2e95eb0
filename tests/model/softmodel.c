/* model/softmodel.c - the software KVM, slow and obvious: see softmodel.h. */
#include "model/softmodel.h"
#include "model/require.h"

#include <errno.h>
#include <string.h>

/* Linux: KVM_USER_MEM_SLOTS, KVM_MEM_MAX_NR_PAGES, and where user memory ends with 4 levels. */
#define USER_IDS 32764u
#define PAGES_MAX ((UINT64_C(1) << 31) - 1)
#define USER_MEMORY_END UINT64_C(0x7ffffffff000)

#define MANUAL_ALL_SET 2u

void softmodel_init(struct softmodel *model, unsigned gpa_bits, unsigned spaces)
{
    memset(model, 0, sizeof(*model));
    model->gpa_bits = gpa_bits;
    model->spaces = spaces;
}

static void drop_log(struct softmodel_slot *slot)
{
    free(slot->dirty);
    free(slot->maybe);
    slot->dirty = NULL;
    slot->maybe = NULL;
}

void softmodel_fini(struct softmodel *model)
{
    for (unsigned i = 0; i < SOFTMODEL_SLOTS; i++) {
        drop_log(&model->slots[i]);
    }
}

static size_t words_of(const struct softmodel_slot *slot)
{
    return (slot->page_count + 63) / 64;
}

/* A log that begins: clean, or as KVM_DIRTY_LOG_INITIALLY_SET has it. Rings know no initial pages. */
static void begin_log(const struct softmodel *model, struct softmodel_slot *slot)
{
    slot->dirty = calloc(words_of(slot), sizeof(*slot->dirty));
    slot->maybe = calloc(words_of(slot), sizeof(*slot->maybe));
    REQUIRE(slot->dirty != NULL && slot->maybe != NULL, "no memory for a log");
    if ((model->manual & MANUAL_ALL_SET) == 0 || model->has_rings) {
        return;
    }
    for (uint64_t page = 0; page < slot->page_count; page++) {
        slot->dirty[page / 64] |= UINT64_C(1) << (page % 64);
    }
}

/* ---- slots ---- */

static struct softmodel_slot *find_id(struct softmodel_slot *slots, unsigned space, unsigned id)
{
    for (unsigned i = 0; i < SOFTMODEL_SLOTS; i++) {
        if (slots[i].is_used && !slots[i].is_private && slots[i].space == space &&
            slots[i].id == id) {
            return &slots[i];
        }
    }
    return NULL;
}

static bool overlaps(const struct softmodel_slot *slots, const struct softmodel_slot *self,
                     unsigned space, const struct gm_soft_slot *change)
{
    uint64_t first = change->gpa / SOFTMODEL_PAGE;
    uint64_t page_count = change->size_bytes / SOFTMODEL_PAGE;

    for (unsigned i = 0; i < SOFTMODEL_SLOTS; i++) {
        const struct softmodel_slot *slot = &slots[i];

        if (slot->is_used && slot != self && slot->space == space &&
            slot->first < first + page_count && first < slot->first + slot->page_count) {
            return true;
        }
    }
    return false;
}

/* The checks of a change by itself, in Linux's order; all are EINVAL. */
static bool is_sane(const struct softmodel *model, const struct gm_soft_slot *change)
{
    uint64_t mask = SOFTMODEL_PAGE - 1;

    return (change->slot & 0xffff) < USER_IDS && change->slot >> 16 < model->spaces &&
           (change->flags & ~(SOFTMODEL_LOG | SOFTMODEL_READONLY)) == 0 &&
           (change->size_bytes & mask) == 0 && (change->gpa & mask) == 0 &&
           (change->hva & mask) == 0 && change->hva <= USER_MEMORY_END &&
           change->size_bytes <= USER_MEMORY_END - change->hva &&
           change->gpa + change->size_bytes >= change->gpa &&
           change->size_bytes / SOFTMODEL_PAGE <= PAGES_MAX;
}

/* Room for another slot; there always is. */
static struct softmodel_slot *unused(struct softmodel_slot *slots)
{
    for (unsigned i = 0; i < SOFTMODEL_SLOTS; i++) {
        if (!slots[i].is_used) {
            return &slots[i];
        }
    }
    REQUIRE(false, "more slots than the model has room for");
    return NULL;
}

static int change_one(struct softmodel *model, struct softmodel_slot *slots,
                      const struct gm_soft_slot *change)
{
    unsigned space = change->slot >> 16;
    struct softmodel_slot *old;
    bool stays;

    if (!is_sane(model, change)) {
        return -EINVAL;
    }
    old = find_id(slots, space, change->slot & 0xffff);
    if (change->size_bytes == 0) {
        if (old == NULL) {
            return -EINVAL;
        }
        old->is_used = false;
        return 0;
    }
    if (old != NULL && ((old->flags & SOFTMODEL_GUEST_MEMFD) != 0 || old->hva != change->hva ||
                        old->page_count != change->size_bytes / SOFTMODEL_PAGE ||
                        ((old->flags ^ change->flags) & SOFTMODEL_READONLY) != 0)) {
        return -EINVAL;
    }
    stays = old != NULL && old->first == change->gpa / SOFTMODEL_PAGE;
    if (!stays && overlaps(slots, old, space, change)) {
        return -EEXIST;
    }
    if (!stays && (change->gpa + change->size_bytes - 1) >> model->gpa_bits != 0) {
        return -EINVAL;
    }
    if (old == NULL) {
        old = unused(slots);
        *old = (struct softmodel_slot){.is_used = true,
                                       .id = (uint16_t)(change->slot & 0xffff),
                                       .space = (uint8_t)space,
                                       .hva = change->hva,
                                       .goes_on = -1};
    }
    old->flags = change->flags;
    old->first = change->gpa / SOFTMODEL_PAGE;
    old->page_count = change->size_bytes / SOFTMODEL_PAGE;
    return 0;
}

/* Tracking belongs to the slot, where it is: it ends as that goes or moves. */
static void drop_tracking(struct softmodel *model, const struct softmodel_slot *draft)
{
    for (unsigned i = 0; i < SOFTMODEL_TRACKED; i++) {
        struct softmodel_tracked *tracked = &model->tracked[i];
        bool stays = false;

        for (unsigned k = 0; k < SOFTMODEL_SLOTS && tracked->count != 0; k++) {
            const struct softmodel_slot *slot = &draft[k];

            stays = stays || (slot->is_used && slot->goes_on == (int)k &&
                              slot->first == model->slots[k].first &&
                              slot->space == tracked->space && tracked->frame >= slot->first &&
                              tracked->frame - slot->first < slot->page_count);
        }
        tracked->count = stays ? tracked->count : 0;
    }
}

int softmodel_set_slots(struct softmodel *model, const struct gm_soft_slot *changes, size_t count,
                        size_t *failed)
{
    struct softmodel_slot draft[SOFTMODEL_SLOTS];
    bool is_kept[SOFTMODEL_SLOTS] = {false};
    unsigned i;

    memcpy(draft, model->slots, sizeof(draft));
    for (i = 0; i < SOFTMODEL_SLOTS; i++) {
        draft[i].goes_on = draft[i].is_used ? (int)i : -1;
    }
    for (size_t n = 0; n < count; n++) {
        int result = change_one(model, draft, &changes[n]);

        if (result != 0) {
            *failed = n;
            return result;
        }
    }
    drop_tracking(model, draft);
    for (i = 0; i < SOFTMODEL_SLOTS; i++) {
        struct softmodel_slot *slot = &draft[i];
        bool goes_on = slot->is_used && slot->goes_on >= 0;

        slot->dirty = goes_on ? model->slots[slot->goes_on].dirty : NULL;
        slot->maybe = goes_on ? model->slots[slot->goes_on].maybe : NULL;
        if (!slot->is_used || (slot->flags & SOFTMODEL_LOG) == 0) {
            slot->dirty = NULL;
            slot->maybe = NULL;
        } else if (slot->dirty != NULL) {
            is_kept[slot->goes_on] = true;
        } else {
            begin_log(model, slot);
        }
    }
    for (i = 0; i < SOFTMODEL_SLOTS; i++) {
        if (!is_kept[i]) {
            drop_log(&model->slots[i]);
        }
    }
    memcpy(model->slots, draft, sizeof(draft));
    return 0;
}

int softmodel_set_memfd_slot(struct softmodel *model, const struct gm_soft_slot *change,
                             uint64_t private_hva)
{
    struct gm_soft_slot plain = *change;
    struct softmodel_slot *slot = softmodel_by_number(model, change->slot);
    size_t failed;
    int result;

    plain.flags = 0;
    if (slot != NULL) {
        return -EINVAL; /* such slots can only be deleted, and others do not become such */
    }
    result = softmodel_set_slots(model, &plain, 1, &failed);
    if (result == 0) {
        slot = softmodel_by_number(model, change->slot);
        slot->flags = SOFTMODEL_GUEST_MEMFD;
        slot->private_hva = private_hva;
    }
    return result;
}

void softmodel_add_private(struct softmodel *model, uint64_t gpa, uint64_t page_count)
{
    for (unsigned space = 0; space < model->spaces; space++) {
        *unused(model->slots) = (struct softmodel_slot){.is_used = true,
                                                        .is_private = true,
                                                        .space = (uint8_t)space,
                                                        .first = gpa / SOFTMODEL_PAGE,
                                                        .page_count = page_count};
    }
}

struct softmodel_slot *softmodel_by_number(struct softmodel *model, uint32_t number)
{
    return find_id(model->slots, number >> 16, number & 0xffff);
}

unsigned softmodel_count(const struct softmodel *model)
{
    unsigned count = 0;

    for (unsigned i = 0; i < SOFTMODEL_SLOTS; i++) {
        count += model->slots[i].is_used;
    }
    return count;
}

/* ---- pages ---- */

static uint64_t attributes_of(const struct softmodel *model, uint64_t frame)
{
    for (unsigned i = model->paint_count; i > 0; i--) {
        const struct softmodel_paint *paint = &model->paints[i - 1];

        if (frame >= paint->first && frame - paint->first < paint->page_count) {
            return paint->attributes;
        }
    }
    return 0;
}

/* Attributes can differ only where one of the paints begins or ends. */
static bool has_uniform_attributes(const struct softmodel *model, uint64_t frame,
                                   uint64_t page_count)
{
    uint64_t attributes = attributes_of(model, frame);

    for (unsigned i = 0; i < model->paint_count; i++) {
        uint64_t edges[2] = {model->paints[i].first,
                             model->paints[i].first + model->paints[i].page_count};

        for (unsigned k = 0; k < 2; k++) {
            if (edges[k] > frame && edges[k] < frame + page_count &&
                attributes_of(model, edges[k]) != attributes) {
                return false;
            }
        }
    }
    return true;
}

static bool is_tracked(const struct softmodel *model, unsigned space, uint64_t frame,
                       uint64_t page_count)
{
    for (unsigned i = 0; i < SOFTMODEL_TRACKED; i++) {
        const struct softmodel_tracked *tracked = &model->tracked[i];

        if (tracked->count != 0 && tracked->space == space && tracked->frame >= frame &&
            tracked->frame - frame < page_count) {
            return true;
        }
    }
    return false;
}

struct softmodel_page softmodel_look(struct softmodel *model, unsigned space, uint64_t frame,
                                     uint64_t page_count)
{
    struct softmodel_page page = {.attributes = attributes_of(model, frame)};

    page.is_uniform = has_uniform_attributes(model, frame, page_count);
    page.is_tracked = is_tracked(model, space, frame, page_count);
    for (unsigned i = 0; i < SOFTMODEL_SLOTS; i++) {
        struct softmodel_slot *slot = &model->slots[i];

        if (slot->is_used && slot->space == space && slot->first <= frame &&
            frame + page_count <= slot->first + slot->page_count) {
            page.slot = slot;
            page.shared_hva = slot->hva + (frame - slot->first) * SOFTMODEL_PAGE;
            page.is_private = (page.attributes & SOFTMODEL_PRIVATE) != 0;
            page.hva = page.is_private ? slot->private_hva + (frame - slot->first) * SOFTMODEL_PAGE
                                       : page.shared_hva;
        }
    }
    if (page.slot != NULL && page.is_uniform && (!page.is_private || page.slot->private_hva != 0)) {
        page.can_read = (page.attributes & SOFTMODEL_NO_READ) == 0;
        page.can_write = (page.attributes & SOFTMODEL_NO_WRITE) == 0 && !page.is_tracked &&
                         (page.slot->flags & SOFTMODEL_READONLY) == 0;
        page.can_execute = (page.attributes & SOFTMODEL_NO_EXECUTE) == 0;
    }
    return page;
}

enum softmodel_verdict softmodel_judge(const struct softmodel_page *page, enum gm_mmu_access access)
{
    uint64_t forbids = access == GM_MMU_READ    ? SOFTMODEL_NO_READ
                       : access == GM_MMU_WRITE ? SOFTMODEL_NO_WRITE
                                                : SOFTMODEL_NO_EXECUTE;

    if (page->slot == NULL) {
        return SOFTMODEL_MMIO;
    }
    if ((page->attributes & forbids) != 0 || (page->is_private && page->slot->private_hva == 0)) {
        return SOFTMODEL_DENIED;
    }
    if (access == GM_MMU_WRITE && (page->slot->flags & SOFTMODEL_READONLY) != 0) {
        return SOFTMODEL_MMIO;
    }
    return SOFTMODEL_MEMORY;
}

/* ---- dirty pages ---- */

static void set_bit(uint64_t *bits, uint64_t page)
{
    if (bits != NULL) {
        bits[page / 64] |= UINT64_C(1) << (page % 64);
    }
}

void softmodel_wrote(struct softmodel_page *page, uint64_t frame)
{
    set_bit(page->slot->dirty, frame - page->slot->first);
}

void softmodel_nearly_wrote(struct softmodel_page *page, uint64_t frame)
{
    set_bit(page->slot->maybe, frame - page->slot->first);
}

bool softmodel_all_dirty(const struct softmodel_slot *slot, uint64_t frame, uint64_t page_count)
{
    for (uint64_t page = frame - slot->first; page < frame - slot->first + page_count; page++) {
        if (!softmodel_bit(slot->dirty, page) && !softmodel_bit(slot->maybe, page)) {
            return false;
        }
    }
    return true;
}

void softmodel_cleaned(struct softmodel_slot *slot, uint64_t page)
{
    slot->dirty[page / 64] &= ~(UINT64_C(1) << (page % 64));
    slot->maybe[page / 64] &= ~(UINT64_C(1) << (page % 64));
}

int softmodel_log_errno(struct softmodel *model, uint32_t number)
{
    struct softmodel_slot *slot;

    if (model->has_rings && !model->has_ring_bitmap) {
        return -ENXIO;
    }
    if (number >> 16 >= model->spaces || (number & 0xffff) >= USER_IDS) {
        return -EINVAL;
    }
    slot = softmodel_by_number(model, number);
    return slot == NULL || slot->dirty == NULL ? -ENOENT : 0;
}

int softmodel_clear_errno(struct softmodel *model, uint32_t number, uint64_t first_page,
                          uint64_t page_count)
{
    int result;
    struct softmodel_slot *slot;

    if (model->has_rings && !model->has_ring_bitmap) {
        return -ENXIO;
    }
    if (number >> 16 >= model->spaces || (number & 0xffff) >= USER_IDS || first_page % 64 != 0) {
        return -EINVAL;
    }
    result = softmodel_log_errno(model, number);
    if (result != 0) {
        return result;
    }
    slot = softmodel_by_number(model, number);
    if (first_page > slot->page_count || page_count > slot->page_count - first_page) {
        return -EINVAL;
    }
    if (page_count % 64 != 0 && first_page + page_count != slot->page_count) {
        return -EINVAL;
    }
    return 0;
}

/* ---- attributes and tracking ---- */

int softmodel_set_attributes(struct softmodel *model, uint64_t gpa, uint64_t size_bytes,
                             uint64_t attributes)
{
    uint64_t end = UINT64_C(1) << model->gpa_bits;

    if (gpa % SOFTMODEL_PAGE != 0 || size_bytes % SOFTMODEL_PAGE != 0 || size_bytes == 0 ||
        gpa >= end || size_bytes > end - gpa || attributes > 15 ||
        (attributes & (SOFTMODEL_NO_READ | SOFTMODEL_NO_WRITE)) == SOFTMODEL_NO_READ) {
        return -EINVAL;
    }
    if (gpa == 0 && size_bytes == end) {
        model->paint_count = 0; /* nothing shows from below */
    }
    REQUIRE(model->paint_count < SOFTMODEL_PAINTS, "more paints than the model has room for");
    model->paints[model->paint_count++] =
        (struct softmodel_paint){gpa / SOFTMODEL_PAGE, size_bytes / SOFTMODEL_PAGE, attributes};
    return 0;
}

static struct softmodel_tracked *find_tracked(struct softmodel *model, unsigned space,
                                              uint64_t frame)
{
    for (unsigned i = 0; i < SOFTMODEL_TRACKED; i++) {
        struct softmodel_tracked *tracked = &model->tracked[i];

        if (tracked->count != 0 && tracked->space == space && tracked->frame == frame) {
            return tracked;
        }
    }
    return NULL;
}

static bool can_be_tracked(struct softmodel *model, unsigned space, uint64_t gpa)
{
    return space < model->spaces &&
           softmodel_look(model, space, gpa / SOFTMODEL_PAGE, 1).slot != NULL;
}

int softmodel_track(struct softmodel *model, unsigned space, uint64_t gpa)
{
    struct softmodel_tracked *tracked = find_tracked(model, space, gpa / SOFTMODEL_PAGE);

    if (!can_be_tracked(model, space, gpa)) {
        return -EINVAL;
    }
    if (tracked != NULL) {
        tracked->count++;
        return 0;
    }
    for (unsigned i = 0; i < SOFTMODEL_TRACKED; i++) {
        if (model->tracked[i].count == 0) {
            model->tracked[i] = (struct softmodel_tracked){space, gpa / SOFTMODEL_PAGE, 1};
            return 0;
        }
    }
    return -ENOSPC;
}

int softmodel_untrack(struct softmodel *model, unsigned space, uint64_t gpa)
{
    struct softmodel_tracked *tracked = find_tracked(model, space, gpa / SOFTMODEL_PAGE);

    if (!can_be_tracked(model, space, gpa)) {
        return -EINVAL;
    }
    if (tracked == NULL) {
        return -ENOENT;
    }
    tracked->count--;
    return 0;
}
