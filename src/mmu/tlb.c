/* mmu/tlb.c - a vCPU's TLB. */
#include "mmu/tlb.h"

#include "base/alloc.h"

#include <errno.h>

/* A flush of more pages than this takes a new tag instead of looking at each. */
#define PAGES_ONE_BY_ONE 64u

static void forget(struct gm_tlb_entry *entry)
{
    entry->load = GM_TLB_NONE;
    entry->store = GM_TLB_NONE;
    entry->fetch = GM_TLB_NONE;
}

void tlb_publish_tags(struct mmu_vcpu *vcpu)
{
    const struct linear *linear = &vcpu->linear;

    vcpu->face.tag = vcpu->tags[vcpu->space];
    for (unsigned view = 0; view < LINEAR_VIEWS; view++) {
        vcpu->face.view_tags[view] = linear->contexts[linear->current].tags[view];
    }
}

/* No entry is left: tags begin anew, and other contexts than the present one have none. */
static void clear_all(struct mmu_vcpu *vcpu)
{
    struct linear *linear = &vcpu->linear;

    for (unsigned i = 0; i < GM_TLB_ENTRIES; i++) {
        forget(&vcpu->face.tlb[i]);
    }
    vcpu->tag_count = 0;
    for (unsigned space = 0; space < KCORE_SPACES; space++) {
        vcpu->tags[space] = vcpu->tag_count++;
    }
    for (unsigned i = 0; i < LINEAR_CONTEXTS; i++) {
        linear->contexts[i].has_tags = i == linear->current;
    }
    for (unsigned view = 0; view < LINEAR_VIEWS; view++) {
        linear->contexts[linear->current].tags[view] = vcpu->tag_count++;
    }
    tlb_publish_tags(vcpu);
}

/* Are there as many tags left? Otherwise all entries are cleared, and no new tag is needed. */
static bool has_tags(struct mmu_vcpu *vcpu, unsigned count)
{
    if (vcpu->tag_count + count <= TLB_TAGS) {
        return true;
    }
    clear_all(vcpu);
    return false;
}

int tlb_init(struct mmu_vcpu *vcpu)
{
    vcpu->face.tlb = mem_alloc(&vcpu->mmu->allocator, GM_TLB_ENTRIES * sizeof(*vcpu->face.tlb));
    if (vcpu->face.tlb == NULL) {
        return -ENOMEM;
    }
    clear_all(vcpu);
    return 0;
}

void tlb_fini(struct mmu_vcpu *vcpu)
{
    mem_free(&vcpu->mmu->allocator, vcpu->face.tlb);
}

void tlb_fill(struct mmu_vcpu *vcpu, uint64_t tag, uint64_t address, const void *host,
              uint64_t rights)
{
    uint64_t page = align_down(address, PAGE_BYTES_4K);
    uint64_t key = page | tag;

    vcpu->face.tlb[(address >> PAGE_SHIFT_4K) % GM_TLB_ENTRIES] = (struct gm_tlb_entry){
        .load = (rights & EPT_READ) != 0 ? key : GM_TLB_NONE,
        .store = (rights & EPT_WRITE) != 0 ? key : GM_TLB_NONE,
        .fetch = (rights & EPT_EXECUTE) != 0 ? key : GM_TLB_NONE,
        .addend = align_down(hva_of(host).value, PAGE_BYTES_4K) - page,
    };
}

void tlb_flush_space(struct mmu_vcpu *vcpu, unsigned space)
{
    if (has_tags(vcpu, 1)) {
        vcpu->tags[space] = vcpu->tag_count++;
        tlb_publish_tags(vcpu);
    }
}

static void flush_entry(struct mmu_vcpu *vcpu, uint64_t page, uint64_t tag)
{
    struct gm_tlb_entry *entry = &vcpu->face.tlb[(page >> PAGE_SHIFT_4K) % GM_TLB_ENTRIES];
    uint64_t key = page | tag;

    if (entry->load == key || entry->store == key || entry->fetch == key) {
        forget(entry);
    }
}

void tlb_flush_page(struct mmu_vcpu *vcpu, unsigned space, struct gfn gfn)
{
    flush_entry(vcpu, gpa_of_gfn(gfn), vcpu->tags[space]);
}

void tlb_note_large(struct mmu_vcpu *vcpu, uint64_t linear, unsigned page_shift)
{
    struct linear *known = &vcpu->linear;
    uint64_t size_bytes = UINT64_C(1) << page_shift;
    uint64_t first = align_down(linear, size_bytes);
    uint64_t last = first + (size_bytes - 1);

    known->large_first = first < known->large_first ? first : known->large_first;
    known->large_last = last > known->large_last ? last : known->large_last;
}

static bool is_of_page(uint64_t key, uint64_t page)
{
    return key != GM_TLB_NONE && (key & GM_MMU_PAGE_MASK) == page;
}

void tlb_flush_linear_page(struct mmu_vcpu *vcpu, uint64_t linear)
{
    struct gm_tlb_entry *entry = &vcpu->face.tlb[(linear >> PAGE_SHIFT_4K) % GM_TLB_ENTRIES];
    uint64_t page = align_down(linear, PAGE_BYTES_4K);

    if (linear >= vcpu->linear.large_first && linear <= vcpu->linear.large_last) {
        tlb_flush_linear(vcpu);
        return;
    }
    if (is_of_page(entry->load, page) || is_of_page(entry->store, page) ||
        is_of_page(entry->fetch, page)) {
        forget(entry);
    }
}

void tlb_flush_context(struct mmu_vcpu *vcpu)
{
    struct linear_context *context = &vcpu->linear.contexts[vcpu->linear.current];

    if (has_tags(vcpu, LINEAR_VIEWS)) {
        for (unsigned view = 0; view < LINEAR_VIEWS; view++) {
            context->tags[view] = vcpu->tag_count++;
        }
        context->has_tags = true;
        tlb_publish_tags(vcpu);
    }
}

void tlb_flush_linear(struct mmu_vcpu *vcpu)
{
    for (unsigned i = 0; i < LINEAR_CONTEXTS; i++) {
        vcpu->linear.contexts[i].has_tags = false;
    }
    vcpu->linear.large_first = UINT64_MAX;
    vcpu->linear.large_last = 0;
    tlb_flush_context(vcpu);
}

void tlb_replay(struct mmu_vcpu *vcpu)
{
    struct flush_record records[FLUSH_RECORDS];
    int count = flush_read(&vcpu->mmu->flush_log, &vcpu->flush_done, records);
    bool is_mine = count < 0;

    if (count < 0) {
        for (unsigned space = 0; space < KCORE_SPACES; space++) {
            tlb_flush_space(vcpu, space);
        }
    }
    for (int i = 0; i < count; i++) {
        const struct flush_record *record = &records[i];

        is_mine = is_mine || record->space == vcpu->space;
        if (record->page_count > PAGES_ONE_BY_ONE) {
            tlb_flush_space(vcpu, record->space);
            continue;
        }
        for (uint64_t page = 0; page < record->page_count; page++) {
            tlb_flush_page(vcpu, record->space, (struct gfn){record->first + page});
        }
    }
    if (is_mine) {
        tlb_flush_linear(vcpu);
    }
}
