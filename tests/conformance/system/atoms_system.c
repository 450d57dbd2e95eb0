/* conformance/system/atoms_system.c - control and debug registers, MSRs. */
#include "maker.h"

#define CR0_PLAUSIBLE UINT64_C(0xe005003f)
/* QEMU 7.2 answers reserved bits of CR4, and of CR3 in long mode, with an exit from a guest that is not there
 * (SVM_EXIT_ERR), and is lost: they cannot be tried. PCIDE is one for TCG. */
#define CR3_ALLOWED UINT64_C(0xffffffffff)
#define CR4_ALLOWED UINT64_C(0x751fff)

/* A change of one bit, mostly; or anything. */
static uint64_t any_value(struct maker *maker, unsigned number)
{
    uint64_t old = number == 0   ? maker->test->state.cr0
                   : number == 3 ? maker->test->state.cr3
                   : number == 4 ? maker->test->state.cr4
                                 : 0;

    switch (maker_below(maker, 8)) {
    case 0:
        return maker_word(maker);
    case 1:
        return old ^ rnd_next(maker->rnd) >> maker_below(maker, 64);
    case 2:
        return old ^ (UINT64_C(1) << maker_below(maker, 64));
    case 3:
        return old;
    default:
        old ^= UINT64_C(1) << maker_below(maker, 32);
        return number == 0 ? old & CR0_PLAUSIBLE : old;
    }
}

static uint64_t control_value(struct maker *maker, unsigned number)
{
    uint64_t value = any_value(maker, number);

    return number == 3 ? value & CR3_ALLOWED : number == 4 ? value & CR4_ALLOWED : value;
}

void atom_control(struct maker *maker)
{
    static const uint8_t numbers[] = {0, 0, 0, 4, 4, 4, 3, 3, 2, 8, 1, 5, 6, 7, 9, 15};
    unsigned number = MAKER_PICK(maker, numbers);
    bool is_write = maker_chance(maker, 2, 3);

    number = maker->bits == 64 ? number : number & 7;
    switch (maker_below(maker, 8)) {
    case 0: /* CLTS */
        PUT(maker, "\x0f\x06");
        return;
    case 1: /* LMSW, SMSW */
        put_load(maker, REG_AX,
                 maker_chance(maker, 1, 2) ? maker_below(maker, 16) : maker_word(maker));
        put_size(maker, maker_any_size(maker));
        PUT(maker, "\x0f\x01");
        put_register(maker, is_write ? 6 : 4, REG_AX);
        return;
    case 2:
        PUT(maker, "\x0f\x01");
        put_memory(maker, is_write ? 6 : 4, maker_place(maker));
        return;
    default:
        break;
    }
    if (is_write) {
        put_load(maker, REG_AX, control_value(maker, number));
    }
    if (number >= 8) {
        PUT(maker, "\x44");
    }
    PUT(maker, "\x0f");
    put_value(maker, is_write ? 0x22 : 0x20, 1);
    put_register(maker, number & 7, maker_chance(maker, 1, 2) || is_write ? REG_AX : REG_SI);
}

/* Breakpoints are not switched on: tests/unit/test_x86_debug.c has them. */
void atom_debug(struct maker *maker)
{
    unsigned number = maker_below(maker, 8);
    bool is_write = maker_chance(maker, 1, 2);
    uint64_t value = maker_word(maker);

    if (number == 7 || number == 5) {
        value &= ~UINT64_C(0xff);
        value |= maker_chance(maker, 1, 3) ? 0x2000 : 0; /* GD */
    }
    if (is_write) {
        put_load(maker, REG_AX, value);
    }
    PUT(maker, "\x0f");
    put_value(maker, is_write ? 0x23 : 0x21, 1);
    put_register(maker, number, is_write ? REG_AX : REG_BX);
}

static uint64_t msr_value(struct maker *maker, uint32_t number)
{
    if (number == 0xc0000080) { /* EFER */
        uint64_t value = maker->test->state.efer;

        return maker_chance(maker, 1, 6) ? maker_word(maker)
                                         : value ^ (UINT64_C(1) << maker_below(maker, 16));
    }
    if (number == 0xc0000081) { /* STAR: selectors */
        return (uint64_t)maker_selector(maker) << 48 | (uint64_t)maker_selector(maker) << 32;
    }
    return maker_word(maker);
}

void atom_msr(struct maker *maker)
{
    static const uint32_t numbers[] = {
        0xc0000080, 0xc0000080, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000100,
        0xc0000101, 0xc0000102, 0x174,      0x175,      0x176,      0xc0000103, 0x277,
        0x2ff,      0x200,      0x201,      0x250,      0x26f,      0xfe,       0x4000dead,
    };
    uint32_t number = MAKER_PICK(maker, numbers);
    uint64_t value = msr_value(maker, number);
    bool is_write = maker_chance(maker, 2, 3) && number != 0xfe;

    switch (maker_below(maker, 10)) {
    case 0: /* XSETBV, XGETBV */
        put_load(maker, REG_CX, maker_chance(maker, 1, 4) ? maker_below(maker, 3) : 0);
        put_load(maker, REG_AX, maker_below(maker, 4));
        put_load(maker, REG_DX, maker_chance(maker, 1, 8) ? maker_word(maker) : 0);
        put_bytes(maker, is_write ? "\x0f\x01\xd1" : "\x0f\x01\xd0", 3);
        return;
    case 1: /* WRPKRU, RDPKRU */
        put_load(maker, REG_CX, maker_chance(maker, 1, 4) ? maker_word(maker) : 0);
        put_load(maker, REG_AX, maker_word(maker) & 0xfffffffc);
        put_load(maker, REG_DX, maker_chance(maker, 1, 8) ? maker_word(maker) : 0);
        put_bytes(maker, is_write ? "\x0f\x01\xef" : "\x0f\x01\xee", 3);
        return;
    default:
        break;
    }
    put_load(maker, REG_CX, number);
    if (is_write) {
        put_load(maker, REG_AX, (uint32_t)value);
        put_load(maker, REG_DX, value >> 32);
    }
    put_bytes(maker, is_write ? "\x0f\x30" : "\x0f\x32", 2);
}

void atom_misc(struct maker *maker)
{
    static const char *const plain[] = {
        "\x0f\x0b",         /* UD2 */
        "\x0f\x01\xca",     /* CLAC */
        "\x0f\x01\xcb",     /* STAC */
        "\x0f\x01\xf8",     /* SWAPGS */
        "\x0f\x01\xf8",     /* SWAPGS */
        "\x0f\x09",         /* WBINVD */
        "\x0f\x08",         /* INVD */
        "\xf4",             /* HLT */
        "\xf4",             /* HLT */
        "\xfb\xf4",         /* STI; HLT */
        "\x0f\x33",         /* RDPMC */
        "\x9b",             /* FWAIT */
        "\xdb\xe3",         /* FNINIT */
        "\x0f\x28\xc0",     /* MOVAPS XMM0, XMM0 */
        "\x0f\x77",         /* EMMS */
        "\x0f\x05\x90",     /* SYSCALL */
        "\x31\xc9\xf7\xf1", /* XOR ECX, ECX; DIV ECX */
        "\xf0\x90",         /* LOCK NOP */
        "\x0f\xaa",         /* RSM */
    };
    const char *bytes = MAKER_PICK(maker, plain);
    unsigned digit = maker_below(maker, 4);

    switch (maker_below(maker, 5)) {
    case 0: /* INVLPG */
        PUT(maker, "\x0f\x01");
        put_memory(maker, 7, maker_place(maker));
        return;
    case 1: /* RDFSBASE and its like */
        if (maker->bits == 64) {
            put_load(maker, REG_BX, maker_address(maker));
            put_bytes(maker, maker_chance(maker, 2, 3) ? "\xf3\x48\x0f\xae" : "\xf3\x40\x0f\xae",
                      4);
            put_register(maker, digit, REG_BX);
            return;
        }
        break;
    default:
        break;
    }
    for (; *bytes != 0; bytes++) {
        put_bytes(maker, bytes, 1);
    }
}
