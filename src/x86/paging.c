/*
 * x86/paging.c - control registers as the mmu wants them, with what CPUID says of paging.
 */
#include "x86/paging.h"

#include "x86/cpuid.h"
#include "x86/mem.h"

static struct gm_mmu_paging paging_of(const struct x86_vcpu *vcpu)
{
    return (struct gm_mmu_paging){
        .cr0 = vcpu->cr0,
        .cr3 = vcpu->cr3,
        .cr4 = vcpu->cr4,
        .efer = vcpu->msr.efer,
        .pkru = vcpu->pkru,
        .maxphyaddr = (uint8_t)x86_maxphyaddr(vcpu),
        .has_1g_pages = cpuid_allows(vcpu, 0x80000001, CPUID_EDX, 26),
        .has_pse36 = cpuid_allows(vcpu, 1, CPUID_EDX, 17),
    };
}

/* Page-directory pointers that cannot be read are as bad as ones that are not valid. */
static enum step change_paging(struct x86_vcpu *vcpu, const struct gm_mmu_paging *paging)
{
    enum gm_mmu_outcome outcome = gm_mmu_set_paging(vcpu->mmu, paging);

    return mem_outcome(vcpu, outcome == GM_MMU_TABLE_LOST ? GM_MMU_PROTECTION : outcome, X86_DS,
                       MEM_READ);
}

enum step paging_set(struct x86_vcpu *vcpu, uint64_t cr0, uint64_t cr3, uint64_t cr4, uint64_t efer,
                     uint32_t pkru)
{
    struct gm_mmu_paging paging = paging_of(vcpu);

    paging.cr0 = cr0;
    paging.cr3 = cr3;
    paging.cr4 = cr4;
    paging.efer = efer;
    paging.pkru = pkru;
    return change_paging(vcpu, &paging);
}

enum step paging_tell(struct x86_vcpu *vcpu)
{
    struct gm_mmu_paging paging = paging_of(vcpu);

    paging.pdptes = vcpu->has_pdptes ? vcpu->pdptes : NULL;
    TRY(change_paging(vcpu, &paging));
    vcpu->is_paging_stale = vcpu->has_pdptes = false;
    return STEP_NEXT;
}
