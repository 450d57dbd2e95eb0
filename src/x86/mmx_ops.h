/*
 * x86/mmx_ops.h - MMX, and what SSE to SSSE3 have on its registers: for each a row, from which the decoder's table, the
 * handlers and their table are made.
 */
#ifndef X86_MMX_OPS_H
#define X86_MMX_OPS_H

/* mm op= mm or memory of so many bytes, or, of a shift, an immediate: as the host's own instruction does it. */
#define MMX_BASE_OPS(X)                                                                            \
    X(PADDB, paddb, 8)                                                                             \
    X(PADDW, paddw, 8)                                                                             \
    X(PADDD, paddd, 8)                                                                             \
    X(PADDQ, paddq, 8)                                                                             \
    X(PSUBB, psubb, 8)                                                                             \
    X(PSUBW, psubw, 8)                                                                             \
    X(PSUBD, psubd, 8)                                                                             \
    X(PSUBQ, psubq, 8)                                                                             \
    X(PADDSB, paddsb, 8)                                                                           \
    X(PADDSW, paddsw, 8)                                                                           \
    X(PADDUSB, paddusb, 8)                                                                         \
    X(PADDUSW, paddusw, 8)                                                                         \
    X(PSUBSB, psubsb, 8)                                                                           \
    X(PSUBSW, psubsw, 8)                                                                           \
    X(PSUBUSB, psubusb, 8)                                                                         \
    X(PSUBUSW, psubusw, 8)                                                                         \
    X(PMULLW, pmullw, 8)                                                                           \
    X(PMULHW, pmulhw, 8)                                                                           \
    X(PMULHUW, pmulhuw, 8)                                                                         \
    X(PMULUDQ, pmuludq, 8)                                                                         \
    X(PMADDWD, pmaddwd, 8)                                                                         \
    X(PSADBW, psadbw, 8)                                                                           \
    X(PAVGB, pavgb, 8)                                                                             \
    X(PAVGW, pavgw, 8)                                                                             \
    X(PMINUB, pminub, 8)                                                                           \
    X(PMINSW, pminsw, 8)                                                                           \
    X(PMAXUB, pmaxub, 8)                                                                           \
    X(PMAXSW, pmaxsw, 8)                                                                           \
    X(PAND, pand, 8)                                                                               \
    X(PANDN, pandn, 8)                                                                             \
    X(POR, por, 8)                                                                                 \
    X(PXOR, pxor, 8)                                                                               \
    X(PCMPEQB, pcmpeqb, 8)                                                                         \
    X(PCMPEQW, pcmpeqw, 8)                                                                         \
    X(PCMPEQD, pcmpeqd, 8)                                                                         \
    X(PCMPGTB, pcmpgtb, 8)                                                                         \
    X(PCMPGTW, pcmpgtw, 8)                                                                         \
    X(PCMPGTD, pcmpgtd, 8)                                                                         \
    X(PUNPCKLBW, punpcklbw, 4)                                                                     \
    X(PUNPCKLWD, punpcklwd, 4)                                                                     \
    X(PUNPCKLDQ, punpckldq, 4)                                                                     \
    X(PUNPCKHBW, punpckhbw, 8)                                                                     \
    X(PUNPCKHWD, punpckhwd, 8)                                                                     \
    X(PUNPCKHDQ, punpckhdq, 8)                                                                     \
    X(PACKSSWB, packsswb, 8)                                                                       \
    X(PACKSSDW, packssdw, 8)                                                                       \
    X(PACKUSWB, packuswb, 8)                                                                       \
    X(PSLLW, psllw, 8)                                                                             \
    X(PSLLD, pslld, 8)                                                                             \
    X(PSLLQ, psllq, 8)                                                                             \
    X(PSRLW, psrlw, 8)                                                                             \
    X(PSRLD, psrld, 8)                                                                             \
    X(PSRLQ, psrlq, 8)                                                                             \
    X(PSRAW, psraw, 8)                                                                             \
    X(PSRAD, psrad, 8)

/* SSSE3, which a host may not have. */
#define MMX_LATER_OPS(X)                                                                           \
    X(PSHUFB, pshufb, 8)                                                                           \
    X(PHADDW, phaddw, 8)                                                                           \
    X(PHADDD, phaddd, 8)                                                                           \
    X(PHADDSW, phaddsw, 8)                                                                         \
    X(PMADDUBSW, pmaddubsw, 8)                                                                     \
    X(PHSUBW, phsubw, 8)                                                                           \
    X(PHSUBD, phsubd, 8)                                                                           \
    X(PHSUBSW, phsubsw, 8)                                                                         \
    X(PSIGNB, psignb, 8)                                                                           \
    X(PSIGNW, psignw, 8)                                                                           \
    X(PSIGND, psignd, 8)                                                                           \
    X(PMULHRSW, pmulhrsw, 8)                                                                       \
    X(PABSB, pabsb, 8)                                                                             \
    X(PABSW, pabsw, 8)                                                                             \
    X(PABSD, pabsd, 8)

#define MMX_OPS(X) MMX_BASE_OPS(X) MMX_LATER_OPS(X)

/* All others. */
#define MMX_OTHER_OPS(X)                                                                           \
    X(MOVD)                                                                                        \
    X(MOVQ)                                                                                        \
    X(MOVNTQ)                                                                                      \
    X(MOVQ2DQ)                                                                                     \
    X(MOVDQ2Q)                                                                                     \
    X(MASKMOVQ)                                                                                    \
    X(PMOVMSKB)                                                                                    \
    X(PINSRW)                                                                                      \
    X(PEXTRW)                                                                                      \
    X(PSHUFW)                                                                                      \
    X(PALIGNR)                                                                                     \
    X(CVTPI2PS)                                                                                    \
    X(CVTPI2PD)                                                                                    \
    X(CVTPS2PI)                                                                                    \
    X(CVTPD2PI)                                                                                    \
    X(CVTTPS2PI)                                                                                   \
    X(CVTTPD2PI)

#define MMX_NUMBER(upper, ...) MMX_##upper,
enum mmx_op {
    MMX_BASE_OPS(MMX_NUMBER) MMX_LATER,
    MMX_BEFORE_LATER = MMX_LATER - 1,
    MMX_LATER_OPS(MMX_NUMBER) MMX_PACKED_COUNT,
    MMX_BEFORE_OTHERS = MMX_PACKED_COUNT - 1,
    MMX_OTHER_OPS(MMX_NUMBER)
};

#endif
