/*
 * x86/flags.h - the arithmetic flags. An instruction leaves behind three words, from which a flag is computed
 * when somebody asks:
 *
 *   flag_zero     ZF: it is 0
 *   flag_sign     SF: bit 63. PF: the low byte has an even number of ones
 *   flag_carries  CF: bit 63. OF: bits 63 and 62 differ. AF: bit 3
 *
 * For most instructions the first two are the result, sign-extended, and flag_carries is the vector of carries
 * out of each bit, shifted so that the highest bit's is bit 63; bit 3's is kept in its place.
 */
#ifndef X86_FLAGS_H
#define X86_FLAGS_H

#include "x86/x86.h"

#define X86_FLAG_CF UINT64_C(0x1)
#define X86_FLAG_ONE UINT64_C(0x2) /* always set */
#define X86_FLAG_PF UINT64_C(0x4)
#define X86_FLAG_AF UINT64_C(0x10)
#define X86_FLAG_ZF UINT64_C(0x40)
#define X86_FLAG_SF UINT64_C(0x80)
#define X86_FLAG_TF UINT64_C(0x100)
#define X86_FLAG_IF UINT64_C(0x200)
#define X86_FLAG_DF UINT64_C(0x400)
#define X86_FLAG_OF UINT64_C(0x800)
#define X86_FLAG_IOPL UINT64_C(0x3000)
#define X86_FLAG_NT UINT64_C(0x4000)
#define X86_FLAG_RF UINT64_C(0x10000)
#define X86_FLAG_VM UINT64_C(0x20000)
#define X86_FLAG_AC UINT64_C(0x40000)
#define X86_FLAG_VIF UINT64_C(0x80000)
#define X86_FLAG_VIP UINT64_C(0x100000)
#define X86_FLAG_ID UINT64_C(0x200000)
#define X86_FLAGS_ARITHMETIC                                                                       \
    (X86_FLAG_CF | X86_FLAG_PF | X86_FLAG_AF | X86_FLAG_ZF | X86_FLAG_SF | X86_FLAG_OF)

#define X86_INLINE static inline __attribute__((always_inline))

X86_INLINE bool flag_cf(const struct x86_vcpu *vcpu)
{
    return (int64_t)vcpu->flag_carries < 0;
}

X86_INLINE bool flag_of(const struct x86_vcpu *vcpu)
{
    return (int64_t)(vcpu->flag_carries ^ (vcpu->flag_carries << 1)) < 0;
}

X86_INLINE bool flag_zf(const struct x86_vcpu *vcpu)
{
    return vcpu->flag_zero == 0;
}

X86_INLINE bool flag_sf(const struct x86_vcpu *vcpu)
{
    return (int64_t)vcpu->flag_sign < 0;
}

X86_INLINE bool flag_af(const struct x86_vcpu *vcpu)
{
    return (vcpu->flag_carries & 8) != 0;
}

X86_INLINE bool flag_pf(const struct x86_vcpu *vcpu)
{
    return !__builtin_parity((uint8_t)vcpu->flag_sign);
}

X86_INLINE uint64_t flags_arithmetic(const struct x86_vcpu *vcpu)
{
    return (flag_cf(vcpu) ? X86_FLAG_CF : 0) | (flag_pf(vcpu) ? X86_FLAG_PF : 0) |
           (flag_af(vcpu) ? X86_FLAG_AF : 0) | (flag_zf(vcpu) ? X86_FLAG_ZF : 0) |
           (flag_sf(vcpu) ? X86_FLAG_SF : 0) | (flag_of(vcpu) ? X86_FLAG_OF : 0);
}

X86_INLINE void flags_set_arithmetic(struct x86_vcpu *vcpu, uint64_t flags)
{
    uint64_t carry = (flags & X86_FLAG_CF) != 0;
    uint64_t below = carry ^ ((flags & X86_FLAG_OF) != 0);

    vcpu->flag_zero = (flags & X86_FLAG_ZF) == 0;
    vcpu->flag_sign =
        ((flags & X86_FLAG_SF) != 0 ? UINT64_C(1) << 63 : 0) | ((flags & X86_FLAG_PF) == 0);
    vcpu->flag_carries = carry << 63 | below << 62 | ((flags & X86_FLAG_AF) != 0 ? 8 : 0);
}

/* Change CF and OF, leave the others. */
X86_INLINE void flags_set_carry_overflow(struct x86_vcpu *vcpu, bool carry, bool overflow)
{
    vcpu->flag_carries =
        (uint64_t)carry << 63 | (uint64_t)(carry ^ overflow) << 62 | (vcpu->flag_carries & 8);
}

X86_INLINE void flags_set_carry(struct x86_vcpu *vcpu, bool carry)
{
    flags_set_carry_overflow(vcpu, carry, flag_of(vcpu));
}

/* The result of @size bytes, sign-extended. */
X86_INLINE uint64_t sign_extend(uint64_t value, unsigned size)
{
    switch (size) {
    case 1:
        return (uint64_t)(int64_t)(int8_t)value;
    case 2:
        return (uint64_t)(int64_t)(int16_t)value;
    case 4:
        return (uint64_t)(int64_t)(int32_t)value;
    default:
        return value;
    }
}

X86_INLINE uint64_t zero_extend(uint64_t value, unsigned size)
{
    return size >= 8 ? value : value & ((UINT64_C(1) << (size * 8)) - 1);
}

X86_INLINE void flags_set_result(struct x86_vcpu *vcpu, uint64_t result, unsigned size)
{
    vcpu->flag_zero = vcpu->flag_sign = sign_extend(result, size);
}

X86_INLINE void flags_set_carries(struct x86_vcpu *vcpu, uint64_t carries, unsigned size)
{
    vcpu->flag_carries = size == 8 ? carries : carries << (64 - size * 8) | (carries & 8);
}

X86_INLINE void flags_of_logic(struct x86_vcpu *vcpu, uint64_t result, unsigned size)
{
    flags_set_result(vcpu, result, size);
    vcpu->flag_carries = 0;
}

/* @result is a + b, or a + b + 1. */
X86_INLINE void flags_of_add(struct x86_vcpu *vcpu, uint64_t a, uint64_t b, uint64_t result,
                             unsigned size)
{
    flags_set_result(vcpu, result, size);
    flags_set_carries(vcpu, (a & b) | ((a | b) & ~result), size);
}

/* @result is a - b, or a - b - 1: the carries are borrows. */
X86_INLINE void flags_of_sub(struct x86_vcpu *vcpu, uint64_t a, uint64_t b, uint64_t result,
                             unsigned size)
{
    flags_set_result(vcpu, result, size);
    flags_set_carries(vcpu, (~a & b) | ((~a | b) & result), size);
}

/* Condition codes, as in the low four bits of Jcc, SETcc and CMOVcc (Intel SDM 2, appendix B). */
X86_INLINE bool flags_condition(const struct x86_vcpu *vcpu, unsigned condition)
{
    bool holds;

    switch (condition >> 1) {
    case 0:
        holds = flag_of(vcpu);
        break;
    case 1:
        holds = flag_cf(vcpu);
        break;
    case 2:
        holds = flag_zf(vcpu);
        break;
    case 3:
        holds = flag_cf(vcpu) || flag_zf(vcpu);
        break;
    case 4:
        holds = flag_sf(vcpu);
        break;
    case 5:
        holds = flag_pf(vcpu);
        break;
    case 6:
        holds = flag_sf(vcpu) != flag_of(vcpu);
        break;
    default:
        holds = flag_zf(vcpu) || flag_sf(vcpu) != flag_of(vcpu);
        break;
    }
    return holds != ((condition & 1) != 0);
}

#endif
