/*
 * x86/sse_ops.h - SSE to SSE4.2, by how they are executed: for each a row, from which the decoder's table, the
 * handlers and their table are made.
 */
#ifndef X86_SSE_OPS_H
#define X86_SSE_OPS_H

/*
 * xmm op= xmm or memory, as the host's own instruction does it. Kinds: INT, 16 bytes that are not computed with MXCSR;
 * F16, F8, F4: of so many bytes, and with MXCSR.
 */
#define SSE_BASE_OPS(X)                                                                            \
    X(PADDB, paddb, INT)                                                                           \
    X(PADDW, paddw, INT)                                                                           \
    X(PADDD, paddd, INT)                                                                           \
    X(PADDQ, paddq, INT)                                                                           \
    X(PSUBB, psubb, INT)                                                                           \
    X(PSUBW, psubw, INT)                                                                           \
    X(PSUBD, psubd, INT)                                                                           \
    X(PSUBQ, psubq, INT)                                                                           \
    X(PADDSB, paddsb, INT)                                                                         \
    X(PADDSW, paddsw, INT)                                                                         \
    X(PADDUSB, paddusb, INT)                                                                       \
    X(PADDUSW, paddusw, INT)                                                                       \
    X(PSUBSB, psubsb, INT)                                                                         \
    X(PSUBSW, psubsw, INT)                                                                         \
    X(PSUBUSB, psubusb, INT)                                                                       \
    X(PSUBUSW, psubusw, INT)                                                                       \
    X(PMULLW, pmullw, INT)                                                                         \
    X(PMULHW, pmulhw, INT)                                                                         \
    X(PMULHUW, pmulhuw, INT)                                                                       \
    X(PMULUDQ, pmuludq, INT)                                                                       \
    X(PMADDWD, pmaddwd, INT)                                                                       \
    X(PSADBW, psadbw, INT)                                                                         \
    X(PAVGB, pavgb, INT)                                                                           \
    X(PAVGW, pavgw, INT)                                                                           \
    X(PMINUB, pminub, INT)                                                                         \
    X(PMINSW, pminsw, INT)                                                                         \
    X(PMAXUB, pmaxub, INT)                                                                         \
    X(PMAXSW, pmaxsw, INT)                                                                         \
    X(PAND, pand, INT)                                                                             \
    X(PANDN, pandn, INT)                                                                           \
    X(POR, por, INT)                                                                               \
    X(PXOR, pxor, INT)                                                                             \
    X(PCMPEQB, pcmpeqb, INT)                                                                       \
    X(PCMPEQW, pcmpeqw, INT)                                                                       \
    X(PCMPEQD, pcmpeqd, INT)                                                                       \
    X(PCMPGTB, pcmpgtb, INT)                                                                       \
    X(PCMPGTW, pcmpgtw, INT)                                                                       \
    X(PCMPGTD, pcmpgtd, INT)                                                                       \
    X(PUNPCKLBW, punpcklbw, INT)                                                                   \
    X(PUNPCKLWD, punpcklwd, INT)                                                                   \
    X(PUNPCKLDQ, punpckldq, INT)                                                                   \
    X(PUNPCKLQDQ, punpcklqdq, INT)                                                                 \
    X(PUNPCKHBW, punpckhbw, INT)                                                                   \
    X(PUNPCKHWD, punpckhwd, INT)                                                                   \
    X(PUNPCKHDQ, punpckhdq, INT)                                                                   \
    X(PUNPCKHQDQ, punpckhqdq, INT)                                                                 \
    X(PACKSSWB, packsswb, INT)                                                                     \
    X(PACKSSDW, packssdw, INT)                                                                     \
    X(PACKUSWB, packuswb, INT)                                                                     \
    X(PSLLW, psllw, INT)                                                                           \
    X(PSLLD, pslld, INT)                                                                           \
    X(PSLLQ, psllq, INT)                                                                           \
    X(PSRLW, psrlw, INT)                                                                           \
    X(PSRLD, psrld, INT)                                                                           \
    X(PSRLQ, psrlq, INT)                                                                           \
    X(PSRAW, psraw, INT)                                                                           \
    X(PSRAD, psrad, INT)                                                                           \
    X(ANDPS, andps, INT)                                                                           \
    X(ANDPD, andpd, INT)                                                                           \
    X(ANDNPS, andnps, INT)                                                                         \
    X(ANDNPD, andnpd, INT)                                                                         \
    X(ORPS, orps, INT)                                                                             \
    X(ORPD, orpd, INT)                                                                             \
    X(XORPS, xorps, INT)                                                                           \
    X(XORPD, xorpd, INT)                                                                           \
    X(UNPCKLPS, unpcklps, INT)                                                                     \
    X(UNPCKHPS, unpckhps, INT)                                                                     \
    X(UNPCKLPD, unpcklpd, INT)                                                                     \
    X(UNPCKHPD, unpckhpd, INT)                                                                     \
    X(ADDPS, addps, F16)                                                                           \
    X(ADDPD, addpd, F16)                                                                           \
    X(SUBPS, subps, F16)                                                                           \
    X(SUBPD, subpd, F16)                                                                           \
    X(MULPS, mulps, F16)                                                                           \
    X(MULPD, mulpd, F16)                                                                           \
    X(DIVPS, divps, F16)                                                                           \
    X(DIVPD, divpd, F16)                                                                           \
    X(MINPS, minps, F16)                                                                           \
    X(MINPD, minpd, F16)                                                                           \
    X(MAXPS, maxps, F16)                                                                           \
    X(MAXPD, maxpd, F16)                                                                           \
    X(SQRTPS, sqrtps, F16)                                                                         \
    X(SQRTPD, sqrtpd, F16)                                                                         \
    X(RCPPS, rcpps, F16)                                                                           \
    X(RSQRTPS, rsqrtps, F16)                                                                       \
    X(CVTDQ2PS, cvtdq2ps, F16)                                                                     \
    X(CVTPS2DQ, cvtps2dq, F16)                                                                     \
    X(CVTTPS2DQ, cvttps2dq, F16)                                                                   \
    X(CVTPD2PS, cvtpd2ps, F16)                                                                     \
    X(CVTPD2DQ, cvtpd2dq, F16)                                                                     \
    X(CVTTPD2DQ, cvttpd2dq, F16)                                                                   \
    X(CVTPS2PD, cvtps2pd, F8)                                                                      \
    X(CVTDQ2PD, cvtdq2pd, F8)                                                                      \
    X(ADDSD, addsd, F8)                                                                            \
    X(SUBSD, subsd, F8)                                                                            \
    X(MULSD, mulsd, F8)                                                                            \
    X(DIVSD, divsd, F8)                                                                            \
    X(MINSD, minsd, F8)                                                                            \
    X(MAXSD, maxsd, F8)                                                                            \
    X(SQRTSD, sqrtsd, F8)                                                                          \
    X(CVTSD2SS, cvtsd2ss, F8)                                                                      \
    X(ADDSS, addss, F4)                                                                            \
    X(SUBSS, subss, F4)                                                                            \
    X(MULSS, mulss, F4)                                                                            \
    X(DIVSS, divss, F4)                                                                            \
    X(MINSS, minss, F4)                                                                            \
    X(MAXSS, maxss, F4)                                                                            \
    X(SQRTSS, sqrtss, F4)                                                                          \
    X(RCPSS, rcpss, F4)                                                                            \
    X(RSQRTSS, rsqrtss, F4)                                                                        \
    X(CVTSS2SD, cvtss2sd, F4)

/*
 * SSE3, SSSE3, SSE4.1 and SSE4.2, which a host may not have. Kinds: I8, I4, I2, as INT, of so many bytes; BLEND, by xmm0
 * as well; ADDPS and its like, computed with MXCSR as these do of elements that are paired otherwise.
 */
#define SSE_LATER_OPS(X)                                                                           \
    X(PSHUFB, pshufb, INT)                                                                         \
    X(PHADDW, phaddw, INT)                                                                         \
    X(PHADDD, phaddd, INT)                                                                         \
    X(PHADDSW, phaddsw, INT)                                                                       \
    X(PMADDUBSW, pmaddubsw, INT)                                                                   \
    X(PHSUBW, phsubw, INT)                                                                         \
    X(PHSUBD, phsubd, INT)                                                                         \
    X(PHSUBSW, phsubsw, INT)                                                                       \
    X(PSIGNB, psignb, INT)                                                                         \
    X(PSIGNW, psignw, INT)                                                                         \
    X(PSIGND, psignd, INT)                                                                         \
    X(PMULHRSW, pmulhrsw, INT)                                                                     \
    X(PABSB, pabsb, INT)                                                                           \
    X(PABSW, pabsw, INT)                                                                           \
    X(PABSD, pabsd, INT)                                                                           \
    X(PMULDQ, pmuldq, INT)                                                                         \
    X(PCMPEQQ, pcmpeqq, INT)                                                                       \
    X(PACKUSDW, packusdw, INT)                                                                     \
    X(PCMPGTQ, pcmpgtq, INT)                                                                       \
    X(PMINSB, pminsb, INT)                                                                         \
    X(PMINSD, pminsd, INT)                                                                         \
    X(PMINUW, pminuw, INT)                                                                         \
    X(PMINUD, pminud, INT)                                                                         \
    X(PMAXSB, pmaxsb, INT)                                                                         \
    X(PMAXSD, pmaxsd, INT)                                                                         \
    X(PMAXUW, pmaxuw, INT)                                                                         \
    X(PMAXUD, pmaxud, INT)                                                                         \
    X(PMULLD, pmulld, INT)                                                                         \
    X(PHMINPOSUW, phminposuw, INT)                                                                 \
    X(MOVSHDUP, movshdup, INT)                                                                     \
    X(MOVSLDUP, movsldup, INT)                                                                     \
    X(MOVDDUP, movddup, I8)                                                                        \
    X(PMOVSXBW, pmovsxbw, I8)                                                                      \
    X(PMOVSXWD, pmovsxwd, I8)                                                                      \
    X(PMOVSXDQ, pmovsxdq, I8)                                                                      \
    X(PMOVZXBW, pmovzxbw, I8)                                                                      \
    X(PMOVZXWD, pmovzxwd, I8)                                                                      \
    X(PMOVZXDQ, pmovzxdq, I8)                                                                      \
    X(PMOVSXBD, pmovsxbd, I4)                                                                      \
    X(PMOVSXWQ, pmovsxwq, I4)                                                                      \
    X(PMOVZXBD, pmovzxbd, I4)                                                                      \
    X(PMOVZXWQ, pmovzxwq, I4)                                                                      \
    X(PMOVSXBQ, pmovsxbq, I2)                                                                      \
    X(PMOVZXBQ, pmovzxbq, I2)                                                                      \
    X(PBLENDVB, pblendvb, BLEND)                                                                   \
    X(BLENDVPS, blendvps, BLEND)                                                                   \
    X(BLENDVPD, blendvpd, BLEND)                                                                   \
    X(ADDSUBPS, addsubps, ADDPS)                                                                   \
    X(ADDSUBPD, addsubpd, ADDPD)                                                                   \
    X(HADDPS, haddps, ADDPS)                                                                       \
    X(HADDPD, haddpd, ADDPD)                                                                       \
    X(HSUBPS, hsubps, SUBPS)                                                                       \
    X(HSUBPD, hsubpd, SUBPD)

#define SSE_OPS(X) SSE_BASE_OPS(X) SSE_LATER_OPS(X)

#define SSE_ENUM(upper, lower, kind) SSE_##upper,
enum sse_op { SSE_OPS(SSE_ENUM) SSE_OP_COUNT };
#undef SSE_ENUM
#define SSE_LATER SSE_PSHUFB /* the first of the later ones */

/* Those with an immediate that is a part of what they do: a row for sse4.S, too. Bytes of memory; 0: 16, not aligned. */
#define SSE_IMMEDIATE_OPS(X)                                                                       \
    X(ROUNDPS, 0x08, 16)                                                                           \
    X(ROUNDPD, 0x09, 16)                                                                           \
    X(ROUNDSS, 0x0a, 4)                                                                            \
    X(ROUNDSD, 0x0b, 8)                                                                            \
    X(BLENDPS, 0x0c, 16)                                                                           \
    X(BLENDPD, 0x0d, 16)                                                                           \
    X(PBLENDW, 0x0e, 16)                                                                           \
    X(PALIGNR, 0x0f, 16)                                                                           \
    X(INSERTPS, 0x21, 4)                                                                           \
    X(DPPS, 0x40, 16)                                                                              \
    X(DPPD, 0x41, 16)                                                                              \
    X(MPSADBW, 0x42, 16)                                                                           \
    X(PCMPESTRM, 0x60, 0)                                                                          \
    X(PCMPESTRI, 0x61, 0)                                                                          \
    X(PCMPISTRM, 0x62, 0)                                                                          \
    X(PCMPISTRI, 0x63, 0)

#define SSE_ENUM(upper, opcode, bytes) SSE4_##upper,
enum sse4_op {
    SSE_IMMEDIATE_OPS(SSE_ENUM) SSE4_IMMEDIATE_COUNT,
    SSE4_PTEST = SSE4_IMMEDIATE_COUNT,
    SSE4_CRC32
};
#undef SSE_ENUM

/* The others, by hand. MOVSD and CMPSD are strings' names as well: the decoder tells them apart. */
enum sse_move_op {
    SSE_MOVE_ALIGNED,
    SSE_MOVE_UNALIGNED,
    SSE_MOVE_SS,
    SSE_MOVE_SD,
    SSE_MOVE_D,
    SSE_MOVE_Q,
    SSE_MOVE_LOW,
    SSE_MOVE_HIGH,
    SSE_MOVE_HIGH_TO_LOW,
    SSE_MOVE_LOW_TO_HIGH,
    SSE_MASK_PS,
    SSE_MASK_PD,
    SSE_MASK_BYTES,
    SSE_FROM_INT_SD,
    SSE_FROM_INT_SS,
    SSE_TO_INT_SD,
    SSE_TO_INT_SS,
    SSE_TRUNCATE_SD,
    SSE_TRUNCATE_SS,
    SSE_ORDER_SD,
    SSE_ORDER_SS,
    SSE_UNORDER_SD,
    SSE_UNORDER_SS,
    SSE_SHUFFLE_D,
    SSE_SHUFFLE_LW,
    SSE_SHUFFLE_HW,
    SSE_SHUFFLE_PS,
    SSE_SHUFFLE_PD,
    SSE_BYTES_LEFT,
    SSE_BYTES_RIGHT,
    SSE_INSERT_W,
    SSE_EXTRACT_W,
    SSE_COMPARE_PS,
    SSE_COMPARE_PD,
    SSE_COMPARE_SS,
    SSE_COMPARE_SD,
    SSE_INSERT_B,
    SSE_INSERT_D,
    SSE_INSERT_Q,
    SSE_EXTRACT_B,
    SSE_EXTRACT_D,
    SSE_EXTRACT_Q,
    SSE_MOVE_MASKED,
};

#define SSE_RULE_OF_MOVE(upper, sub) M(upper) = {exec_sse, (sub), 0},
#define SSE_MOVES(X)                                                                               \
    X(MOVAPS, SSE_MOVE_ALIGNED)                                                                    \
    X(MOVAPD, SSE_MOVE_ALIGNED)                                                                    \
    X(MOVDQA, SSE_MOVE_ALIGNED)                                                                    \
    X(MOVNTPS, SSE_MOVE_ALIGNED)                                                                   \
    X(MOVNTPD, SSE_MOVE_ALIGNED)                                                                   \
    X(MOVNTDQ, SSE_MOVE_ALIGNED)                                                                   \
    X(MOVNTDQA, SSE_MOVE_ALIGNED)                                                                  \
    X(MASKMOVDQU, SSE_MOVE_MASKED)                                                                 \
    X(LDDQU, SSE_MOVE_UNALIGNED)                                                                   \
    X(PINSRB, SSE_INSERT_B)                                                                        \
    X(PINSRD, SSE_INSERT_D)                                                                        \
    X(PINSRQ, SSE_INSERT_Q)                                                                        \
    X(PEXTRB, SSE_EXTRACT_B)                                                                       \
    X(PEXTRD, SSE_EXTRACT_D)                                                                       \
    X(PEXTRQ, SSE_EXTRACT_Q)                                                                       \
    X(EXTRACTPS, SSE_EXTRACT_D)                                                                    \
    X(MOVUPS, SSE_MOVE_UNALIGNED)                                                                  \
    X(MOVUPD, SSE_MOVE_UNALIGNED)                                                                  \
    X(MOVDQU, SSE_MOVE_UNALIGNED)                                                                  \
    X(MOVSS, SSE_MOVE_SS)                                                                          \
    X(MOVD, SSE_MOVE_D)                                                                            \
    X(MOVQ, SSE_MOVE_Q)                                                                            \
    X(MOVLPS, SSE_MOVE_LOW)                                                                        \
    X(MOVLPD, SSE_MOVE_LOW)                                                                        \
    X(MOVHPS, SSE_MOVE_HIGH)                                                                       \
    X(MOVHPD, SSE_MOVE_HIGH)                                                                       \
    X(MOVHLPS, SSE_MOVE_HIGH_TO_LOW)                                                               \
    X(MOVLHPS, SSE_MOVE_LOW_TO_HIGH)                                                               \
    X(MOVMSKPS, SSE_MASK_PS)                                                                       \
    X(MOVMSKPD, SSE_MASK_PD)                                                                       \
    X(PMOVMSKB, SSE_MASK_BYTES)                                                                    \
    X(CVTSI2SD, SSE_FROM_INT_SD)                                                                   \
    X(CVTSI2SS, SSE_FROM_INT_SS)                                                                   \
    X(CVTSD2SI, SSE_TO_INT_SD)                                                                     \
    X(CVTSS2SI, SSE_TO_INT_SS)                                                                     \
    X(CVTTSD2SI, SSE_TRUNCATE_SD)                                                                  \
    X(CVTTSS2SI, SSE_TRUNCATE_SS)                                                                  \
    X(COMISD, SSE_ORDER_SD)                                                                        \
    X(COMISS, SSE_ORDER_SS)                                                                        \
    X(UCOMISD, SSE_UNORDER_SD)                                                                     \
    X(UCOMISS, SSE_UNORDER_SS)                                                                     \
    X(PSHUFD, SSE_SHUFFLE_D)                                                                       \
    X(PSHUFLW, SSE_SHUFFLE_LW)                                                                     \
    X(PSHUFHW, SSE_SHUFFLE_HW)                                                                     \
    X(SHUFPS, SSE_SHUFFLE_PS)                                                                      \
    X(SHUFPD, SSE_SHUFFLE_PD)                                                                      \
    X(PSLLDQ, SSE_BYTES_LEFT)                                                                      \
    X(PSRLDQ, SSE_BYTES_RIGHT)                                                                     \
    X(PINSRW, SSE_INSERT_W)                                                                        \
    X(PEXTRW, SSE_EXTRACT_W)                                                                       \
    X(CMPPS, SSE_COMPARE_PS)                                                                       \
    X(CMPPD, SSE_COMPARE_PD)                                                                       \
    X(CMPSS, SSE_COMPARE_SS)

enum fpu_op {
    FPU_FXSAVE,
    FPU_FXRSTOR,
    FPU_LDMXCSR,
    FPU_STMXCSR,
    FPU_FNINIT,
    FPU_FNCLEX,
    FPU_FNSTCW,
    FPU_FLDCW,
    FPU_FNSTSW,
    FPU_FWAIT,
    FPU_FNSTENV,
    FPU_FLDENV,
    FPU_FNSAVE,
    FPU_FRSTOR,
    FPU_EMMS,
    FPU_XSAVE,
    FPU_XSAVEOPT,
    FPU_XRSTOR,
};

#endif
