/* guest/lib.c - what compilers call by themselves, for the kernel and the program. */
#include <stddef.h>
#include <stdint.h>

void *memcpy(void *to, const void *from, size_t count);
void *memmove(void *to, const void *from, size_t count);
void *memset(void *to, int value, size_t count);
int memcmp(const void *left, const void *right, size_t count);

/* Words, and then bytes. */
void *memcpy(void *to, const void *from, size_t count)
{
    size_t words = count / 8;
    void *at = to;

    __asm__ volatile("rep movsq\n\t"
                     "mov %3, %2\n\t"
                     "rep movsb"
                     : "+&D"(at), "+&S"(from), "+&c"(words)
                     : "r"(count % 8)
                     : "memory");
    return to;
}

/* Backwards where it has to be. */
void *memmove(void *to, const void *from, size_t count)
{
    char *last = (char *)to + count - 1;
    const char *last_from = (const char *)from + count - 1;

    if ((uintptr_t)to - (uintptr_t)from >= count) {
        return memcpy(to, from, count);
    }
    __asm__ volatile("std\n\trep movsb\n\tcld"
                     : "+D"(last), "+S"(last_from), "+c"(count)
                     :
                     : "memory", "cc");
    return to;
}

void *memset(void *to, int value, size_t count)
{
    size_t words = count / 8;
    void *at = to;

    __asm__ volatile("rep stosq\n\t"
                     "mov %2, %1\n\t"
                     "rep stosb"
                     : "+&D"(at), "+&c"(words)
                     : "r"(count % 8), "a"((uint8_t)value * 0x0101010101010101ul)
                     : "memory");
    return to;
}

int memcmp(const void *left, const void *right, size_t count)
{
    int below, above;

    if (count == 0) {
        return 0;
    }
    __asm__ volatile("repe cmpsb\n\tseta %b3\n\tsetb %b4"
                     : "+S"(left), "+D"(right), "+c"(count), "=q"(above), "=q"(below)
                     :
                     : "memory", "cc");
    return (above & 1) - (below & 1);
}
