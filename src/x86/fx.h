/*
 * x86/fx.h - the area that FXSAVE and XSAVE have in common (Intel SDM 1, 10.5.1 and 13.4.1): x87's part and SSE's.
 */
#ifndef X86_FX_H
#define X86_FX_H

#include "x86/insn.h"

#define FX_BYTES 512u
#define FX_MXCSR 24u
#define FX_ST 32u
#define FX_XMM 160u

/* @is_64: pointers of 64 bits. MXCSR, with its mask, is a part of its own. */
void fx_put_x87(const struct x86_vcpu *vcpu, bool is_64, uint8_t area[FX_BYTES]);
void fx_put_mxcsr(const struct x86_vcpu *vcpu, uint8_t area[FX_BYTES]);
void fx_put_xmm(const struct x86_vcpu *vcpu, uint8_t area[FX_BYTES]);

void fx_get_x87(struct x86_vcpu *vcpu, bool is_64, const uint8_t area[FX_BYTES]);
void fx_get_xmm(struct x86_vcpu *vcpu, const uint8_t area[FX_BYTES]);
/* It may have bits that are not there. */
uint32_t fx_mxcsr(const uint8_t area[FX_BYTES]);

/* 16 registers in 64-bit mode, and 8 in others: where their part ends. */
unsigned fx_end(const struct x86_vcpu *vcpu);

/* Read, or write, a part of the area, by 8 bytes. */
enum step fx_load(struct x86_vcpu *vcpu, uint64_t linear, unsigned seg, unsigned size,
                  uint8_t *bytes);
enum step fx_store(struct x86_vcpu *vcpu, uint64_t linear, unsigned seg, unsigned size,
                   const uint8_t *bytes);

#endif
