/*
 * x86/paging.c - control registers as the mmu wants them, and the CPUID leaves that say what it may do.
 */
#include "x86/paging.h"

#include "x86/mem.h"

bool cpuid_find(const struct x86_vcpu *vcpu, uint32_t function, uint32_t index,
                struct x86_cpuid_entry *entry)
{
    for (size_t i = 0; i < vcpu->cpuid_count; i++) {
        const struct x86_cpuid_entry *candidate = &vcpu->cpuid[i];

        if (candidate->function == function &&
            (!candidate->is_indexed || candidate->index == index)) {
            *entry = *candidate;
            return true;
        }
    }
    *entry = (struct x86_cpuid_entry){0};
    return false;
}

enum step paging_set(struct x86_vcpu *vcpu, uint64_t cr0, uint64_t cr3, uint64_t cr4, uint64_t efer,
                     uint32_t pkru)
{
    struct gm_mmu_paging paging = {.cr0 = cr0, .cr3 = cr3, .cr4 = cr4, .efer = efer, .pkru = pkru};
    struct x86_cpuid_entry entry;

    if (cpuid_find(vcpu, 0x80000008, 0, &entry)) {
        paging.maxphyaddr = (uint8_t)entry.eax;
    }
    paging.maxphyaddr = paging.maxphyaddr < 32 || paging.maxphyaddr > 52 ? 52 : paging.maxphyaddr;
    paging.has_1g_pages = !cpuid_find(vcpu, 0x80000001, 0, &entry) || (entry.edx >> 26 & 1) != 0;
    paging.has_pse36 = !cpuid_find(vcpu, 1, 0, &entry) || (entry.edx >> 17 & 1) != 0;
    return mem_outcome(vcpu, gm_mmu_set_paging(vcpu->mmu, &paging), X86_DS, MEM_READ);
}
