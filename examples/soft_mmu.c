/*
 * examples/soft_mmu.c - the software KVM as an emulator's MMU: one slot of memory, a vCPU's stores
 * and loads through it, an access that comes out as MMIO, and the dirty log by KVM's own ioctl.
 */
#include <guestmem/soft_ioctl.h>

#include <stdio.h>
#include <sys/mman.h>

#define RAM_BYTES 0x100000u

int main(void)
{
    void *ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct gm_soft_slot slot = {.size_bytes = RAM_BYTES, .hva = (uintptr_t)ram};
    uint64_t dirty[RAM_BYTES / 4096 / 64];
    struct kvm_dirty_log log = {.dirty_bitmap = dirty};
    struct gm_soft_vcpu *vcpu;
    enum gm_mmu_outcome outcome;
    uint64_t value = 0;
    struct gm_soft *vm;
    struct gm_mmu *mmu;

    slot.flags = KVM_MEM_LOG_DIRTY_PAGES;
    if (ram == MAP_FAILED || gm_soft_open(NULL, &vm, NULL) != 0 ||
        gm_soft_set_slots(vm, &slot, 1, NULL) != 0 || gm_soft_vcpu_new(vm, 0, &vcpu) != 0) {
        return 1;
    }
    mmu = gm_soft_vcpu_mmu(vcpu);
    outcome = gm_mmu_enter(mmu);
    for (uint64_t gpa = 0x2ffc; outcome == GM_MMU_OK; gpa += 0x7f000) {
        outcome =
            gm_mmu_store(mmu, gpa, 8, gpa); /* the first crosses a page, the third is outside */
        if (outcome == GM_MMU_OK) {
            outcome = gm_mmu_load(mmu, gpa, 8, &value);
            printf("%llx holds %llx\n", (unsigned long long)gpa, (unsigned long long)value);
        }
    }
    if (outcome ==
        GM_MMU_MMIO) { /* an emulator would ask its device, and go on by gm_mmu_resume() */
        printf("%u bytes at %llx: MMIO\n", gm_mmu_exit(mmu)->size_bytes,
               (unsigned long long)gm_mmu_exit(mmu)->gpa);
    }
    if (gm_soft_vm_ioctl(vm, KVM_GET_DIRTY_LOG, (unsigned long)&log) == 0) {
        printf("dirty pages: %llx\n", (unsigned long long)dirty[0]);
    }
    gm_soft_vcpu_free(vcpu);
    return gm_soft_close(vm) != 0;
}
