/* guest/work/singles.c - the workloads of one thread, by number. */
#include "guest/work/work.h"

single_fn *const singles[WORK_SINGLES] = {
    [WORK_SORT] = work_sort,     [WORK_SHA256] = work_sha256, [WORK_LZ] = work_lz,
    [WORK_TREE] = work_tree,     [WORK_MATCH] = work_match,   [WORK_JIT] = work_jit,
    [WORK_JUMP] = work_jump,
#ifdef GUEST_HAS_SSE
    [WORK_MATRIX] = work_matrix,
#endif
};
