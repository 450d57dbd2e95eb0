/* guest/work/heap.c - an allocator: free lists by size of power-of-two blocks, cut from the heap as they are needed. */
#include "guest/work/work.h"

#define CLASSES 20u /* 32 bytes to 16 MiB */

/* Before each block. */
struct head {
    uint64_t class;
    struct head *next; /* free */
};

static struct head *free_lists[CLASSES];
static char *start, *end;

void heap_init(void)
{
    start = end = env_heap();
    for (unsigned i = 0; i < CLASSES; i++) {
        free_lists[i] = NULL;
    }
}

void *heap_new(size_t bytes)
{
    uint64_t class = 0;
    struct head *head;

    while (((size_t)32 << class) < bytes + sizeof(*head)) {
        class ++;
    }
    head = free_lists[class];
    if (head != NULL) {
        free_lists[class] = head->next;
    } else {
        work_require((size_t)(end - start) + ((size_t)32 << class) <= USER_HEAP_BYTES,
                     "the heap is full");
        head = (struct head *)end;
        end += (size_t)32 << class;
    }
    head->class = class;
    return head + 1;
}

void heap_free(void *block)
{
    struct head *head = (struct head *)block - 1;

    head->next = free_lists[head->class];
    free_lists[head->class] = head;
}
