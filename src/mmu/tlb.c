/* mmu/tlb.c - a vCPU's TLB. */
#include "mmu/tlb.h"

#include "base/alloc.h"

#include <errno.h>

/* A flush of more pages than this takes a new tag instead of looking at each. */
#define PAGES_ONE_BY_ONE 64u

static void clear_all(struct mmu_vcpu *vcpu)
{
    for (unsigned i = 0; i < GM_TLB_ENTRIES; i++) {
        vcpu->face.tlb[i] = (struct gm_tlb_entry){GM_TLB_NONE, GM_TLB_NONE, GM_TLB_NONE, 0};
    }
    vcpu->tag_count = 0;
    for (unsigned space = 0; space < KCORE_SPACES; space++) {
        vcpu->tags[space] = vcpu->tag_count++;
    }
}

int tlb_init(struct mmu_vcpu *vcpu)
{
    vcpu->face.tlb = mem_alloc(&vcpu->mmu->allocator, GM_TLB_ENTRIES * sizeof(*vcpu->face.tlb));
    if (vcpu->face.tlb == NULL) {
        return -ENOMEM;
    }
    clear_all(vcpu);
    vcpu->face.tag = vcpu->tags[vcpu->space];
    return 0;
}

void tlb_fini(struct mmu_vcpu *vcpu)
{
    mem_free(&vcpu->mmu->allocator, vcpu->face.tlb);
}

void tlb_fill(struct mmu_vcpu *vcpu, uint64_t gpa, const void *host, uint64_t rights)
{
    uint64_t page = align_down(gpa, PAGE_BYTES_4K);
    uint64_t key = page | vcpu->face.tag;

    vcpu->face.tlb[(gpa >> PAGE_SHIFT_4K) % GM_TLB_ENTRIES] = (struct gm_tlb_entry){
        .load = (rights & EPT_READ) != 0 ? key : GM_TLB_NONE,
        .store = (rights & EPT_WRITE) != 0 ? key : GM_TLB_NONE,
        .fetch = (rights & EPT_EXECUTE) != 0 ? key : GM_TLB_NONE,
        .addend = align_down(hva_of(host).value, PAGE_BYTES_4K) - page,
    };
}

void tlb_flush_space(struct mmu_vcpu *vcpu, unsigned space)
{
    if (vcpu->tag_count == TLB_TAGS) {
        clear_all(vcpu);
    } else {
        vcpu->tags[space] = vcpu->tag_count++;
    }
    vcpu->face.tag = vcpu->tags[vcpu->space];
}

void tlb_flush_page(struct mmu_vcpu *vcpu, unsigned space, struct gfn gfn)
{
    struct gm_tlb_entry *entry = &vcpu->face.tlb[gfn.value % GM_TLB_ENTRIES];
    uint64_t key = gpa_of_gfn(gfn) | vcpu->tags[space];

    if (entry->load == key || entry->store == key || entry->fetch == key) {
        entry->load = GM_TLB_NONE;
        entry->store = GM_TLB_NONE;
        entry->fetch = GM_TLB_NONE;
    }
}

void tlb_replay(struct mmu_vcpu *vcpu)
{
    struct flush_record records[FLUSH_RECORDS];
    int count = flush_read(&vcpu->mmu->flush_log, &vcpu->flush_done, records);

    if (count < 0) {
        for (unsigned space = 0; space < KCORE_SPACES; space++) {
            tlb_flush_space(vcpu, space);
        }
    }
    for (int i = 0; i < count; i++) {
        const struct flush_record *record = &records[i];

        if (record->page_count > PAGES_ONE_BY_ONE) {
            tlb_flush_space(vcpu, record->space);
            continue;
        }
        for (uint64_t page = 0; page < record->page_count; page++) {
            tlb_flush_page(vcpu, record->space, (struct gfn){record->first + page});
        }
    }
}
