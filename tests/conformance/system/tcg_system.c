/* conformance/system/tcg_system.c - registers of the system that QEMU's processor has otherwise. */
#include "tcg_watch.h"

#include "arena.h"

#define EFER_KNOWN UINT64_C(0xd01)
#define CR0_EM UINT64_C(4)
#define CR0_TS UINT64_C(8)
#define CR4_OSFXSR UINT64_C(0x200)
#define CR0_NW UINT64_C(0x20000000)
#define CR0_CD UINT64_C(0x40000000)
#define CR0_KNOWN UINT64_C(0xe005003f)
#define CR4_DE UINT64_C(8)
#define CR4_LA57 UINT64_C(0x1000)
#define CR4_OSXSAVE UINT64_C(0x40000)
#define CR4_KNOWN UINT64_C(0x751fff)
#define PDPTE_RESERVED UINT64_C(0xffffff00000001e6)
#define DR6_RESERVED UINT64_C(0x1000)
#define DR7_RESERVED UINT64_C(0xd000)
#define DR6_BS UINT64_C(0x4000)
#define PHYSICAL_END (UINT64_C(1) << 40)
#define CR3_ADDRESS UINT64_C(0xffffffffff000)
#define TABLE_BYTES 0x1000u
#define PDPTES_BYTES 32u

/* The registers of paging, as a MOV to one of them would leave them. */
struct paging_to_be {
    uint64_t cr0, cr3, cr4;
};

static struct paging_to_be paging_to_be(const struct x86_vcpu *cpu, ZydisRegister number,
                                        uint64_t value)
{
    return (struct paging_to_be){
        .cr0 = number == ZYDIS_REGISTER_CR0 ? value : cpu->cr0,
        .cr3 = number == ZYDIS_REGISTER_CR3 ? value : cpu->cr3,
        .cr4 = number == ZYDIS_REGISTER_CR4 ? value : cpu->cr4,
    };
}

/* The table that a walk begins with is not in the arena: QEMU's machine has memory there, which is the test's own. */
static bool has_root_outside(const struct watch *watch, const struct paging_to_be *paging)
{
    bool is_long = (watch->cpu->msr.efer & WATCH_EFER_LME) != 0;
    bool has_pdptes = !is_long && (paging->cr4 & WATCH_CR4_PAE) != 0;
    uint64_t at = paging->cr3 & (is_long ? CR3_ADDRESS : UINT32_MAX & ~UINT64_C(0x1f));

    at &= has_pdptes ? UINT64_MAX : ~UINT64_C(0xfff);
    return (paging->cr0 & WATCH_CR0_PG) != 0 &&
           at > SYSTEM_ARENA_BYTES - (has_pdptes ? PDPTES_BYTES : TABLE_BYTES);
}

/* With PAE paging to be, would its PDPTEs be refused? */
static bool has_bad_pdptes(const struct watch *watch, const struct paging_to_be *paging)
{
    uint64_t at = paging->cr3 & 0xffffffe0;

    if ((paging->cr0 & WATCH_CR0_PG) == 0 || (paging->cr4 & WATCH_CR4_PAE) == 0 ||
        (watch->cpu->msr.efer & WATCH_EFER_LME) != 0) {
        return false;
    }
    for (unsigned i = 0; i < 4; i++) {
        uint64_t entry;

        memcpy(&entry, watch->vcpu->rig.memory + at + 8 * i, 8);
        if ((entry & 1) != 0 && (entry & PDPTE_RESERVED) != 0) {
            return true;
        }
    }
    return false;
}

static bool differs_in_cr0(const struct watch *watch, uint64_t value)
{
    const struct x86_vcpu *cpu = watch->cpu;
    uint64_t changed = cpu->cr0 ^ value;
    bool wants_long = (cpu->msr.efer & WATCH_EFER_LME) != 0;

    return value >> 32 != 0 || (value & (WATCH_CR0_PG | WATCH_CR0_PE)) == WATCH_CR0_PG ||
           (value & (CR0_NW | CR0_CD)) == CR0_NW ||
           ((changed & value & WATCH_CR0_PG) != 0 && wants_long &&
            ((cpu->cr4 & WATCH_CR4_PAE) == 0 || cpu->segment[X86_CS].l)) ||
           ((changed & ~value & WATCH_CR0_PG) != 0 && watch->bits == 64);
}

static bool names_debug_register(const struct watch *watch)
{
    for (unsigned i = 0; i < 2; i++) {
        ZydisRegister number = watch->operands[i].reg.value;

        if (number >= ZYDIS_REGISTER_DR0 && number <= ZYDIS_REGISTER_DR15) {
            return true;
        }
    }
    return false;
}

/* DR4 and DR5 with CR4.DE, in an outer ring: which exception comes first. */
static bool is_unordered_debug(const struct watch *watch)
{
    for (unsigned i = 0; i < 2; i++) {
        ZydisRegister number = watch->operands[i].reg.value;

        if (number == ZYDIS_REGISTER_DR4 || number == ZYDIS_REGISTER_DR5) {
            return watch->cpu->cpl != 0 && (watch->cpu->cr4 & CR4_DE) != 0;
        }
    }
    return false;
}

static bool differs_in_debug(const struct watch *watch)
{
    ZydisRegister number = watch->operands[0].reg.value;
    uint64_t value = register_value(watch, watch->operands[1].reg.value);

    switch (number) {
    case ZYDIS_REGISTER_DR4:
    case ZYDIS_REGISTER_DR6:
        return (value & DR6_RESERVED) != 0;
    case ZYDIS_REGISTER_DR5:
    case ZYDIS_REGISTER_DR7:
        return (value & DR7_RESERVED) != 0;
    default:
        return false;
    }
}

/* MOV from DR6 after a single step, which may have changed what it says of breakpoints. */
static bool reads_stepped_debug(const struct watch *watch)
{
    ZydisRegister number = watch->operands[1].reg.value;

    return (number == ZYDIS_REGISTER_DR4 || number == ZYDIS_REGISTER_DR6) &&
           (watch->cpu->dr[6] & DR6_BS) != 0;
}

static bool differs_in_control(const struct watch *watch, enum tcg_difference *what)
{
    const struct x86_vcpu *cpu = watch->cpu;
    bool is_write = watch->operands[0].reg.value >= ZYDIS_REGISTER_CR0 &&
                    watch->operands[0].reg.value <= ZYDIS_REGISTER_CR15;
    ZydisRegister number = watch->operands[is_write ? 0 : 1].reg.value;
    uint64_t value = register_value(watch, watch->operands[1].reg.value);
    struct paging_to_be paging = paging_to_be(cpu, is_write ? number : ZYDIS_REGISTER_NONE, value);

    if (reads_stepped_debug(watch)) {
        *what = TCG_BREAKPOINT_READ;
        return true;
    }
    if (differs_in_debug(watch)) {
        *what = TCG_DR_RESERVED;
        return true;
    }
    if ((cpu->dr[7] & UINT64_C(0x2000)) != 0 /* GD */ && names_debug_register(watch)) {
        *what = TCG_DEBUG_GD;
        return true;
    }
    if (is_unordered_debug(watch)) {
        *what = TCG_CR_ORDER;
        return true;
    }
    if (!is_write || cpu->cpl != 0) {
        return false;
    }
    if (number == ZYDIS_REGISTER_CR0 && (value & ~CR0_KNOWN) != 0 && value <= UINT32_MAX) {
        *what = TCG_CR0_RESERVED;
        return true;
    }
    if (number == ZYDIS_REGISTER_CR0 && differs_in_cr0(watch, value)) {
        *what = TCG_CR0_CHECK;
        return true;
    }
    if (has_root_outside(watch, &paging)) {
        *what = TCG_ROOT_OUTSIDE;
        return true;
    }
    if (has_bad_pdptes(watch, &paging)) {
        *what = TCG_PDPTE_CHECK;
        return true;
    }
    *what = TCG_CR0_CHECK;
    if (number == ZYDIS_REGISTER_CR4 && is_long_mode(cpu) &&
        ((value & WATCH_CR4_PAE) == 0 || ((value ^ cpu->cr4) & CR4_LA57) != 0)) {
        return true;
    }
    *what = TCG_CR_RESERVED;
    return (number == ZYDIS_REGISTER_CR8 && value > 15) ||
           (number == ZYDIS_REGISTER_CR4 && (value & ~CR4_KNOWN) != 0) ||
           (number == ZYDIS_REGISTER_CR3 && is_long_mode(cpu) && value >= PHYSICAL_END);
}

static bool differs_in_msr(const struct watch *watch, enum tcg_difference *what)
{
    const struct x86_vcpu *cpu = watch->cpu;
    uint64_t value = cpu->gpr[X86_RDX] << 32 | (uint32_t)cpu->gpr[X86_RAX];
    bool is_unknown = (uint32_t)cpu->gpr[X86_RCX] == 0x4000dead;

    *what = TCG_MSR_UNKNOWN;
    if (cpu->cpl != 0 || is_unknown || watch->insn.mnemonic == ZYDIS_MNEMONIC_RDMSR) {
        return cpu->cpl == 0 && is_unknown;
    }
    switch ((uint32_t)cpu->gpr[X86_RCX]) {
    case 0x174:
        *what = TCG_SYSENTER_WIDTH;
        return value > UINT16_MAX;
    case 0xc0000080: /* EFER */
        *what = TCG_EFER;
        return (value & ~EFER_KNOWN) != 0 ||
               ((cpu->cr0 & WATCH_CR0_PG) != 0 && ((value ^ cpu->msr.efer) & WATCH_EFER_LME) != 0);
    case 0x200 ... 0x2ff: /* MTRRs, PAT */
        *what = TCG_MSR_TYPES;
        return true;
    case 0xc0000103: /* TSC_AUX */
        *what = TCG_MSR_AUX;
        return value > UINT32_MAX;
    case 0xc0000082 ... 0xc0000083: /* LSTAR, CSTAR, the bases of FS and GS, SYSENTER's */
    case 0xc0000100 ... 0xc0000102:
    case 0x175 ... 0x176:
        *what = TCG_MSR_CANONICAL;
        return !is_canonical(cpu, value);
    default:
        return false;
    }
}

static bool differs_in_ltr(const struct watch *watch)
{
    const ZydisDecodedOperand *operand = &watch->operands[0];
    uint64_t at = offset_of(watch, operand);
    uint64_t selector = 0;

    if (operand->type == ZYDIS_OPERAND_TYPE_REGISTER) {
        selector = register_value(watch, operand->reg.value);
    } else if (at < SYSTEM_ARENA_BYTES - 2) { /* segments for data begin at 0, or leave the arena */
        memcpy(&selector, watch->vcpu->rig.memory + at, 2);
    }
    return watch->cpu->cpl == 0 && (selector & 0xfffc) == 0;
}

/* A null selector for SS whose RPL is not the level. */
static bool loads_odd_null_stack(const struct watch *watch)
{
    const ZydisDecodedOperand *operands = watch->operands;
    uint64_t selector;

    if (watch->bits != 64 || operands[0].type != ZYDIS_OPERAND_TYPE_REGISTER ||
        operands[0].reg.value != ZYDIS_REGISTER_SS ||
        operands[1].type != ZYDIS_OPERAND_TYPE_REGISTER) {
        return false;
    }
    selector = register_value(watch, operands[1].reg.value);
    return (selector & 0xfffc) == 0 && (selector & 3) != watch->cpu->cpl;
}

/* LGDT or LIDT of 64-bit code, of a base that is not canonical. */
static bool loads_table_nowhere(const struct watch *watch)
{
    uint64_t at = offset_of(watch, &watch->operands[0]);
    uint64_t base = 0;

    if (watch->bits == 64 && at < SYSTEM_ARENA_BYTES - 10) {
        memcpy(&base, watch->vcpu->rig.memory + at + 2, 8);
    }
    return watch->cpu->cpl == 0 && !is_canonical(watch->cpu, base);
}

/* SSE that is both #UD and #NM. */
static bool is_sse_refused_twice(const struct watch *watch)
{
    const struct x86_vcpu *cpu = watch->cpu;

    return (cpu->cr0 & CR0_TS) != 0 && ((cpu->cr0 & CR0_EM) != 0 || (cpu->cr4 & CR4_OSFXSR) == 0);
}

bool differs_in_system(const struct watch *watch, enum tcg_difference *what)
{
    const struct x86_vcpu *cpu = watch->cpu;

    switch (watch->insn.mnemonic) {
    case ZYDIS_MNEMONIC_STI:
        *what = TCG_STI_TRAP;
        return (cpu->rflags & WATCH_FLAG_TF) != 0;
    case ZYDIS_MNEMONIC_XSETBV:
        *what = TCG_CR_ORDER;
        return cpu->cpl != 0 && (cpu->cr4 & CR4_OSXSAVE) == 0;
    case ZYDIS_MNEMONIC_RDMSR:
    case ZYDIS_MNEMONIC_WRMSR:
        return differs_in_msr(watch, what);
    case ZYDIS_MNEMONIC_EMMS:
        *what = TCG_EMMS;
        return (cpu->cr0 & (CR0_EM | CR0_TS)) != 0;
    case ZYDIS_MNEMONIC_MOVAPS: /* the maker has no other of SSE */
        *what = TCG_SSE_ORDER;
        return is_sse_refused_twice(watch);
    case ZYDIS_MNEMONIC_MOV:
        *what = TCG_NULL_STACK;
        return loads_odd_null_stack(watch) || differs_in_control(watch, what);
    case ZYDIS_MNEMONIC_LGDT:
    case ZYDIS_MNEMONIC_LIDT:
        *what = TCG_TABLE_CANONICAL;
        return loads_table_nowhere(watch);
    case ZYDIS_MNEMONIC_LTR:
        *what = TCG_LTR_NULL;
        return differs_in_ltr(watch);
    case ZYDIS_MNEMONIC_RDPMC:
        *what = TCG_RDPMC;
        return true;
    case ZYDIS_MNEMONIC_LSS:
        *what = TCG_LSS_SHADOW;
        if ((cpu->rflags & WATCH_FLAG_TF) != 0 || cpu->is_shadowed) {
            return true;
        }
        *what = TCG_FAR_POINTER;
        return watch->insn.operand_width == 64;
    case ZYDIS_MNEMONIC_LFS:
    case ZYDIS_MNEMONIC_LGS:
        *what = TCG_FAR_POINTER;
        return watch->insn.operand_width == 64;
    default:
        return false;
    }
}

/* Behind what prefixes there are. */
static const uint8_t *skip_prefixes(const struct watch *watch, const uint8_t *bytes,
                                    const uint8_t *end)
{
    while (bytes < end && (*bytes == 0x66 || *bytes == 0x67 || (*bytes & 0xe7) == 0x26 ||
                           (*bytes & 0xfc) == 0x64 || (*bytes & 0xfe) == 0xf2 ||
                           (watch->bits == 64 && (*bytes & 0xf0) == 0x40))) {
        bytes++;
    }
    return bytes;
}

/* What cannot be decoded: LOCK NOP; 0f 20 and 0f 22 of a register that there is not, in an outer ring; ... */
bool differs_undecoded(const struct watch *watch, enum tcg_difference *what)
{
    const struct x86_vcpu *cpu = watch->cpu;
    uint64_t linear =
        watch->bits == 64 ? cpu->rip : (uint32_t)(cpu->segment[X86_CS].base + cpu->rip);
    const uint8_t *end = watch->vcpu->rig.memory + SYSTEM_ARENA_BYTES - 2;
    const uint8_t *bytes;

    if (linear >= SYSTEM_ARENA_BYTES - 2) {
        return false;
    }
    bytes = watch->vcpu->rig.memory + linear;
    *what = TCG_LOCK;
    if (bytes[0] == 0xf0 && bytes[1] == 0x90) {
        return true;
    }
    bytes = skip_prefixes(watch, bytes, end);
    *what = TCG_GROUPS;
    if ((bytes[0] & 0xfe) == 0xc6 || bytes[0] == 0x8f) {
        return true;
    }
    *what = TCG_CR_ORDER;
    if (bytes[0] == 0xff) { /* /7: the operand is read first */
        return true;
    }
    return cpu->cpl != 0 && bytes[0] == 0x0f && (bytes[1] & 0xfd) == 0x20;
}
