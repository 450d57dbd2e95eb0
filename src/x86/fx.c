/* x86/fx.c - the area of FXSAVE and XSAVE. */
#include "x86/fx.h"

#include "x86/mem.h"
#include "x86/sse.h"
#include "x86/x87.h"

static void put(uint8_t *at, unsigned size, uint64_t value)
{
    memcpy(at, &value, size);
}

static uint64_t get(const uint8_t *at, unsigned size)
{
    uint64_t value = 0;

    memcpy(&value, at, size);
    return value;
}

unsigned fx_end(const struct x86_vcpu *vcpu)
{
    return FX_XMM + (vcpu->mode == X86_MODE_64 ? 16 : 8) * sizeof(vcpu->xmm[0]);
}

void fx_put_x87(const struct x86_vcpu *vcpu, bool is_64, uint8_t area[FX_BYTES])
{
    put(area, 2, vcpu->fpu.fcw);
    put(area + 2, 2, vcpu->fpu.fsw);
    put(area + 4, 2, vcpu->fpu.ftw);
    put(area + 6, 2, vcpu->fpu.last_opcode);
    put(area + 8, 8, is_64 ? vcpu->fpu.last_ip : (uint32_t)vcpu->fpu.last_ip);
    put(area + 16, 8, is_64 ? vcpu->fpu.last_dp : (uint32_t)vcpu->fpu.last_dp);
    for (unsigned i = 0; i < 8; i++) {
        memset(area + FX_ST + i * 16, 0, 16);
        memcpy(area + FX_ST + i * 16, vcpu->fpu.st[i], 10);
    }
}

void fx_put_mxcsr(const struct x86_vcpu *vcpu, uint8_t area[FX_BYTES])
{
    put(area + FX_MXCSR, 4, vcpu->mxcsr);
    put(area + FX_MXCSR + 4, 4, MXCSR_KNOWN);
}

void fx_put_xmm(const struct x86_vcpu *vcpu, uint8_t area[FX_BYTES])
{
    memcpy(area + FX_XMM, vcpu->xmm, fx_end(vcpu) - FX_XMM);
}

void fx_get_x87(struct x86_vcpu *vcpu, bool is_64, const uint8_t area[FX_BYTES])
{
    vcpu->fpu.fcw = (uint16_t)((get(area, 2) & 0x1f3f) | 0x40);
    vcpu->fpu.fsw = (uint16_t)get(area + 2, 2);
    vcpu->fpu.ftw = area[4];
    vcpu->fpu.last_opcode = (uint16_t)get(area + 6, 2);
    vcpu->fpu.last_ip = get(area + 8, is_64 ? 8 : 4);
    vcpu->fpu.last_dp = get(area + 16, is_64 ? 8 : 4);
    for (unsigned i = 0; i < 8; i++) {
        memcpy(vcpu->fpu.st[i], area + FX_ST + i * 16, 10);
    }
    x87_derive(&vcpu->fpu);
}

void fx_get_xmm(struct x86_vcpu *vcpu, const uint8_t area[FX_BYTES])
{
    memcpy(vcpu->xmm, area + FX_XMM, fx_end(vcpu) - FX_XMM);
}

uint32_t fx_mxcsr(const uint8_t area[FX_BYTES])
{
    return (uint32_t)get(area + FX_MXCSR, 4);
}

enum step fx_load(struct x86_vcpu *vcpu, uint64_t linear, unsigned seg, unsigned size,
                  uint8_t *bytes)
{
    uint64_t value;

    for (unsigned i = 0; i < size; i += 8) {
        TRY(load_linear(vcpu, linear + i, 8, seg, &value));
        put(bytes + i, 8, value);
    }
    return STEP_NEXT;
}

enum step fx_store(struct x86_vcpu *vcpu, uint64_t linear, unsigned seg, unsigned size,
                   const uint8_t *bytes)
{
    for (unsigned i = 0; i < size; i += 8) {
        TRY(store_linear(vcpu, linear + i, 8, seg, get(bytes + i, 8)));
    }
    return STEP_NEXT;
}
