/*
 * guest/abi.h - what the compiled guest, its kernel, its programs and the host program agree upon.
 *
 *   0x00001000  page tables that the host boots the kernel on: 1 GiB at 0 and at GUEST_KERNEL_BASE, supervisor's
 *   0x00008000  the board: what the host wants, what came of it
 *   0x00100000  the kernel, linked at GUEST_KERNEL_BASE + 0x100000; its first byte is where each processor begins, with
 *               its number in RDI
 *   0x00400000  the image of the one program that there is: the "file" that processes map
 *   0x00600000  frames for processes; from 24 MiB on in blocks of 2 MiB
 */
#ifndef GUEST_ABI_H
#define GUEST_ABI_H

#include <stdint.h>

#define GUEST_PAGE 4096ul
#define GUEST_BLOCK 0x200000ul
#define GUEST_RAM_BYTES 0x2000000ul
#define GUEST_BOOT_TABLES 0x1000ul
#define GUEST_BOARD 0x8000ul
#define GUEST_KERNEL 0x100000ul
#define GUEST_KERNEL_END 0x400000ul
#define GUEST_KERNEL_BASE 0xffffffff80000000ul
#define GUEST_IMAGE 0x400000ul
#define GUEST_FRAMES 0x600000ul
#define GUEST_BLOCKS 0x1800000ul

/* Ports. END takes 4 bytes: 0 all is done, 1 the kernel has panicked, having said why on TEXT. */
#define GUEST_PORT_TEXT 0xe9
#define GUEST_PORT_END 0xf4

#define GUEST_CPUS 2u

/* Where a process has what. */
#define USER_IMAGE 0x400000ul
#define USER_HEAP 0x10000000ul
#define USER_HEAP_BYTES 0x800000ul
#define USER_CODE 0x20000000ul /* writable and executable */
#define USER_CODE_BYTES 0x4000ul
#define USER_MAPPINGS 0x40000000ul /* what it maps itself */
#define USER_CALL 0x60000000ul     /* a fetch from here is a system call, which returns to RCX */
#define USER_STACK_END 0x7ffffffff000ul
#define USER_STACK_BYTES 0x100000ul /* at most; it begins as one page */

#define GUEST_VECTOR_CALL 0x80

/* System calls: number in RAX, arguments in RDI, RSI, RDX, R10, result in RAX. */
enum {
    SYSCALL_EXIT,    /* (value) */
    SYSCALL_FORK,    /* (cpu): 0 in the child, its number in the parent */
    SYSCALL_THREAD,  /* (entry, stack, argument, cpu): its number */
    SYSCALL_WAIT,    /* (number, uint64_t *value): until it has exited */
    SYSCALL_YIELD,   /* () */
    SYSCALL_MAP,     /* (address, bytes, MAP_*) */
    SYSCALL_UNMAP,   /* (address, bytes) */
    SYSCALL_PROTECT, /* (address, bytes, MAP_*), of whole mappings */
    SYSCALL_REPLACE, /* (page, value): another frame, each of whose words is the value */
    SYSCALL_HANDLER, /* (address): called with vector, error code, CR2 of what would end the process */
    SYSCALL_COUNTER, /* (COUNTER_*): the kernel's count */
    SYSCALL_REPORT,  /* (index, value): to the board */
    SYSCALL_BOARD,   /* (BOARD_*): what the host wants */
};

enum {
    MAP_READ = 1,
    MAP_WRITE = 2,
    MAP_EXECUTE = 4,
    MAP_LARGE = 8,  /* by 2 MiB */
    MAP_FILE = 16,  /* the image; private */
    MAP_STACK = 32, /* grows down */
};

/* What the kernel counts. */
enum {
    COUNTER_ZERO,      /* page faults: a page of zeros was mapped for a read */
    COUNTER_ANONYMOUS, /* ... a new frame of zeros was */
    COUNTER_FILE,      /* ... a frame of the image was */
    COUNTER_COPY,      /* ... a frame was copied for a write */
    COUNTER_REUSE,     /* ... a frame that nobody shares any more was made writable */
    COUNTER_GROWTH,    /* ... the stack grew by so many pages */
    COUNTER_LARGE,     /* ... a block of 2 MiB was mapped */
    COUNTER_SPLIT,     /* large pages that became small ones */
    COUNTER_SPURIOUS,  /* page faults where the tables allowed the access */
    COUNTER_KERNEL,    /* of all these: taken by the kernel, for a process's memory */
    COUNTER_VIOLATION, /* page faults that were the process's mistake */
    COUNTER_TRAP,      /* other exceptions that were */
    COUNTER_SHOOTDOWN, /* invalidations that another processor was asked for */
    COUNTER_FORK,
    COUNTER_SYSCALL,
    COUNTER_SWITCH, /* of address spaces */
    COUNTERS,
};

/* What the processors have; the host says so in CPUID, too. */
enum {
    FEATURE_SSE = 1,
    FEATURE_PCID = 2,
    FEATURE_SMEP = 4,
    FEATURE_SMAP = 8,
    /* How programs ask the kernel; without both by a jump to USER_CALL, where nothing is. */
    FEATURE_SYSCALL = 16,
    FEATURE_INT = 32, /* INT GUEST_VECTOR_CALL */
};

/* Of the program: one workload after the other, each in a process. */
enum {
    WORK_SORT,
    WORK_SHA256,
    WORK_LZ,
    WORK_TREE,
    WORK_MATCH,
    WORK_JIT,
    WORK_JUMP,
    WORK_MATRIX, /* the first that needs FEATURE_SSE */
    WORK_SINGLES,
};
/* ... in two threads each. */
enum {
    PAIR_SPINLOCK,
    PAIR_TICKET,
    PAIR_STACK,
    PAIR_SEQLOCK,
    PAIR_WIDE,
    PAIR_CODE,
    PAIR_REPLACE,
    WORK_PAIRS,
};
/* ... that ask the kernel. */
enum {
    PROBE_FAULTS,
    PROBE_DEMAND,
    PROBE_FORK,
    PROBE_STACK,
    PROBE_LARGE,
    PROBE_FILE,
    PROBE_PROTECT,
    WORK_PROBES,
};

/* Indices of results. */
#define RESULT_SINGLE 0
#define RESULT_PAIR (RESULT_SINGLE + WORK_SINGLES)
#define RESULT_PROBE (RESULT_PAIR + WORK_PAIRS)
#define RESULTS (RESULT_PROBE + WORK_PROBES)

struct guest_board {
    uint64_t cpus;
    uint64_t features;
    uint64_t rounds;  /* of each workload */
    uint64_t repeats; /* of all workloads; 0: only probes */
    uint64_t results[RESULTS];
    uint64_t counters[COUNTERS];
    uint64_t frames_lost; /* that were free before the first process, and not after the last */
};

enum {
    BOARD_CPUS,
    BOARD_FEATURES,
    BOARD_ROUNDS,
    BOARD_REPEATS,
};

#endif
