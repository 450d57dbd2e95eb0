/* x86/x87.c - images of x87's state. */
#include "x86/x87.h"

#include <assert.h>

enum tag {
    TAG_VALID,
    TAG_ZERO,
    TAG_SPECIAL,
    TAG_EMPTY,
};

static_assert(sizeof(struct x87_image) == 108, "as FNSAVE has it");

void x87_derive(struct x86_fpu *fpu)
{
    fpu->fsw &= (uint16_t) ~(X87_ERROR | X87_BUSY);
    if ((fpu->fsw & ~fpu->fcw & X87_EXCEPTIONS) != 0) {
        fpu->fsw |= X87_ERROR | X87_BUSY;
    }
}

void x87_set_top(struct x86_fpu *fpu, unsigned top)
{
    unsigned before = fpu->fsw >> X87_TOP_SHIFT & 7;
    uint8_t registers[8][sizeof(fpu->st[0])];

    for (unsigned i = 0; i < 8; i++) {
        memcpy(registers[(before + i) & 7], fpu->st[i], sizeof(fpu->st[i]));
    }
    for (unsigned i = 0; i < 8; i++) {
        memcpy(fpu->st[i], registers[(top + i) & 7], sizeof(fpu->st[i]));
    }
    fpu->fsw = (uint16_t)((fpu->fsw & ~(7u << X87_TOP_SHIFT)) | top << X87_TOP_SHIFT);
}

void x87_reset(struct x86_fpu *fpu)
{
    x87_set_top(fpu, 0);
    fpu->fcw = 0x37f;
    fpu->fsw = 0;
    fpu->ftw = 0;
    fpu->last_opcode = 0;
    fpu->last_ip = fpu->last_dp = 0;
}

static enum tag tag_of(const uint8_t st[10])
{
    uint64_t fraction;
    uint16_t exponent;

    memcpy(&fraction, st, sizeof(fraction));
    memcpy(&exponent, st + 8, sizeof(exponent));
    exponent &= 0x7fff;
    if (exponent == 0 && fraction == 0) {
        return TAG_ZERO;
    }
    return exponent == 0 || exponent == 0x7fff || fraction >> 63 == 0 ? TAG_SPECIAL : TAG_VALID;
}

/* Tags are by register; @fpu has the registers in the stack's order, and a bit for each that is not empty. */
static uint16_t tags_of(const struct x86_fpu *fpu)
{
    unsigned top = fpu->fsw >> X87_TOP_SHIFT & 7;
    uint16_t tags = 0;

    for (unsigned i = 0; i < 8; i++) {
        enum tag tag = (fpu->ftw >> i & 1) == 0 ? TAG_EMPTY : tag_of(fpu->st[(i - top) & 7]);

        tags |= (uint16_t)((unsigned)tag << (2 * i));
    }
    return tags;
}

void x87_to_image(const struct x86_fpu *fpu, struct x87_image *image)
{
    *image = (struct x87_image){
        .fcw = fpu->fcw,
        .fsw = fpu->fsw,
        .ftw = tags_of(fpu),
        .ip = (uint32_t)fpu->last_ip,
        .opcode = fpu->last_opcode & 0x7ff,
        .dp = (uint32_t)fpu->last_dp,
        .reserved0 = UINT16_MAX,
        .reserved1 = UINT16_MAX,
        .reserved2 = UINT16_MAX,
        .reserved3 = UINT16_MAX,
    };
    for (unsigned i = 0; i < 8; i++) {
        memcpy(image->st[i], fpu->st[i], 10);
    }
}

void x87_from_image(struct x86_fpu *fpu, const struct x87_image *image)
{
    fpu->fcw = (image->fcw & 0x1f3f) | 0x40;
    fpu->fsw = image->fsw;
    fpu->ftw = 0;
    for (unsigned i = 0; i < 8; i++) {
        fpu->ftw |= (uint8_t)(((image->ftw >> (2 * i) & 3) != TAG_EMPTY) << i);
        memcpy(fpu->st[i], image->st[i], 10);
    }
    x87_derive(fpu);
}
