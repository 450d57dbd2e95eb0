/*
 * conformance/ept/image.h - what the host and the guest program of the EPT oracle hand each other.
 *
 * The guest program (guest/) is a tiny hypervisor. It boots in Bochs, or in QEMU's TCG, on a processor
 * with VMX and EPT, or with SVM and nested paging. The host gives it an image, which holds second-level
 * page tables that somebody else built, and a list of questions. For
 * each question the guest program lets a virtual machine on these tables make one access, and sends
 * off what came of it. So the processor of the emulator walks the tables, not our code.
 *
 * Everything is little-endian. Physical addresses are those of the emulated machine.
 *
 * THE IMAGE is the machine's first disk, and is read to ORACLE_IMAGE_ADDRESS as it boots. It begins with
 * struct oracle_image, which names the place of
 *
 *   tables     whole pages, at a multiple of 4096 bytes in the image: the table with number n is the
 *              page at ORACLE_IMAGE_ADDRESS + tables_offset + 4096 * n. Entries that point to a table
 *              hold that address already, and so does `root`; leaves hold addresses inside of frames;
 *   frames     struct oracle_frame: the stretches of physical memory that leaves may lead to. They do
 *              not overlap, each is aligned to its size, and all are above ORACLE_DATA_ADDRESS, below
 *              ORACLE_DATA_END and in the machine's RAM;
 *   queries    struct oracle_query: the questions. GPAs are multiples of 8;
 *   window     `window_gpa`, a multiple of 1 GiB. On the way there the tree has an entry that is 0,
 *              and those above it allow everything. There the guest program hangs tables of its own,
 *              for the code and the page tables of the virtual machine; it takes them out again
 *              before it dumps the tree. No query asks for an address in that GiB.
 *
 * HOW A FRAME SHOWS WHICH IT IS. Before the first question every aligned 8-byte word of a frame that
 * could answer is set to ORACLE_WORD of its own physical address. As data it says where it is. As code
 * it is `mov $(address >> 3), %eax; vmcall` (on SVM: vmmcall), so that a fetch can tell the same. A
 * write stores ORACLE_WRITTEN; the guest program then looks where in the frames that word has appeared,
 * and puts the old one back.
 *
 * THE ANSWER is what is printed on the parallel port, a stream of bytes: struct oracle_greeting; one
 * struct oracle_answer per query, in order; one struct oracle_entry for each entry of the tables that
 * is not 0 after the last question, and one whose table is ORACLE_ENTRY_END.
 */
#ifndef CONFORMANCE_EPT_IMAGE_H
#define CONFORMANCE_EPT_IMAGE_H

#include <stdint.h>

#define ORACLE_IMAGE_ADDRESS 0x2000000ull /* 32 MiB; below is the guest program */
#define ORACLE_DATA_ADDRESS 0x10000000ull /* 256 MiB; the image ends before */
#define ORACLE_DATA_END 0x800000000ull    /* 32 GiB: what ORACLE_WORD can tell */

#define ORACLE_IMAGE_MAGIC 0x314547414d545045ull    /* "EPTMAGE1" */
#define ORACLE_GREETING_MAGIC 0x315357534e415445ull /* "ETANSWS1" */

/* Intel's, where the root is an EPTP (with memory type, number of levels, A/D flag); or AMD's, where it
 * is a nested CR3 and entries are those of long mode. */
enum oracle_format {
    ORACLE_FORMAT_EPT = 1,
    ORACLE_FORMAT_NPT = 2,
};

struct oracle_image {
    uint64_t magic;
    uint32_t format;     /* enum oracle_format */
    uint32_t levels;     /* 4 or 5 */
    uint64_t size_bytes; /* of the whole image */
    uint64_t root;
    uint64_t window_gpa;
    uint64_t tables_offset; /* in bytes from the beginning of the image, as the others */
    uint64_t table_count;
    uint64_t frames_offset;
    uint64_t frame_count;
    uint64_t queries_offset;
    uint64_t query_count;
};

struct oracle_frame {
    uint64_t address;
    uint64_t size_bytes; /* 4 KiB, 2 MiB or 1 GiB */
};

enum oracle_kind {
    ORACLE_READ = 0,
    ORACLE_WRITE = 1,
    ORACLE_FETCH = 2,
};

struct oracle_query {
    uint64_t gpa;
    uint64_t kind; /* enum oracle_kind */
};

struct oracle_greeting {
    uint64_t magic;
    uint64_t capabilities;  /* EPT: MSR IA32_VMX_EPT_VPID_CAP; NPT: EDX of CPUID 8000000Ah */
    uint64_t physical_bits; /* MAXPHYADDR */
};

enum oracle_outcome {
    ORACLE_OK = 0,        /* address: of the frame's word that was read, written or executed */
    ORACLE_VIOLATION = 1, /* address: the GPA; detail: the exit qualification */
    ORACLE_MISCONFIGURATION = 2, /* address: the GPA */
    ORACLE_NESTED_FAULT = 3,     /* NPT's two in one; address: the GPA; detail: EXITINFO1 */
    ORACLE_STRANGE = 4,          /* address: what was read, instead of an ORACLE_WORD */
    ORACLE_LOST = 5,             /* a write that is in no frame, or in several (detail: how many) */
    ORACLE_OTHER_EXIT = 6, /* detail: reason or exit code; address: qualification or EXITINFO1 */
    ORACLE_NO_ENTRY = 7,   /* the processor refused; detail: its error number */
};

struct oracle_answer {
    uint64_t outcome; /* enum oracle_outcome */
    uint64_t detail;
    uint64_t address;
};

#define ORACLE_ENTRY_END UINT64_MAX

struct oracle_entry {
    uint64_t table; /* its number */
    uint64_t index; /* 0 to 511 */
    uint64_t value;
};

/* b8 imm32 is mov imm32, %eax; 0f 01 c1 is vmcall, 0f 01 d9 is vmmcall. */
#define ORACLE_WORD_VMCALL 0xc1010f0000000000ull
#define ORACLE_WORD_VMMCALL 0xd9010f0000000000ull
#define ORACLE_WORD_MASK 0xffffff00000000ffull
#define ORACLE_WORD(call, address) ((call) | ((uint64_t)(address) >> 3 << 8) | 0xb8u)
#define ORACLE_WRITTEN 0x6e65747469727721ull

_Static_assert(sizeof(struct oracle_image) == 88, "the image's layout is the host's as well");
_Static_assert(sizeof(struct oracle_frame) == 16, "the image's layout is the host's as well");
_Static_assert(sizeof(struct oracle_query) == 16, "the image's layout is the host's as well");
_Static_assert(sizeof(struct oracle_greeting) == 24, "the stream's layout is the host's as well");
_Static_assert(sizeof(struct oracle_answer) == 24, "the stream's layout is the host's as well");
_Static_assert(sizeof(struct oracle_entry) == 24, "the stream's layout is the host's as well");

#endif
