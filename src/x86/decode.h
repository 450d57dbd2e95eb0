/*
 * x86/decode.h - from bytes to struct insn.
 */
#ifndef X86_DECODE_H
#define X86_DECODE_H

#include "x86/insn.h"

enum decoded {
    DECODED,
    DECODED_SHORT, /* the instruction goes on after the bytes */
};

/*
 * Decode the instruction that begins with @bytes.
 * @insn: its offset is the caller's. An encoding that is no instruction raises #UD when run; one that is not
 * there exits with X86_EXIT_EMULATION; one of more than 15 bytes raises #GP.
 */
enum decoded decode(const uint8_t *bytes, unsigned byte_count, enum x86_mode mode,
                    struct insn *insn);

#endif
