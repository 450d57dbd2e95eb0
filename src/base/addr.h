/*
 * base/addr.h - address arithmetic: the only room where addresses are compared with lengths.
 *
 * Kinds of address are structs of one member, so that the compiler refuses to mix them: host virtual
 * addresses everywhere, guest frame numbers in the software KVM. A guest physical address is a plain
 * number where there is nothing to mix it with. Positions while a tree is rendered are signed 128-bit
 * numbers: an alias may look from below its target's start, and a space ends at 2^64.
 */
#ifndef BASE_ADDR_H
#define BASE_ADDR_H

#include <guestmem/types.h>

#include <stdbool.h>
#include <stdint.h>

typedef __int128 pos_t;

struct hva {
    uint64_t value;
};

struct gfn {
    uint64_t value;
};

#define PAGE_SHIFT_4K 12u
#define PAGE_BYTES_4K ((uint64_t)1 << PAGE_SHIFT_4K)
#define POS_2_64 ((pos_t)1 << 64)

static inline struct hva hva_of(const void *pointer)
{
    return (struct hva){(uint64_t)(uintptr_t)pointer};
}

static inline struct gfn gfn_of(uint64_t gpa)
{
    return (struct gfn){gpa >> PAGE_SHIFT_4K};
}

static inline uint64_t gpa_of_gfn(struct gfn gfn)
{
    return gfn.value << PAGE_SHIFT_4K;
}

/* Does [at, at + size) lie within [base, base + length)? Correct for any values: nothing wraps. */
static inline bool range_holds(uint64_t base, uint64_t length, uint64_t at, uint64_t size)
{
    return at >= base && size <= length && at - base <= length - size;
}

/* The bytes of an access of @size at @at that lie before @last ends: min(size, last - at + 1). */
static inline uint64_t bytes_until(uint64_t at, uint64_t last, uint64_t size)
{
    uint64_t beyond_first = last - at; /* at <= last */

    return size - 1 <= beyond_first ? size : beyond_first + 1;
}

static inline bool is_power_of_two(uint64_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

static inline uint64_t align_down(uint64_t value, uint64_t power_of_two)
{
    return value & ~(power_of_two - 1);
}

static inline pos_t pos_min(pos_t a, pos_t b)
{
    return a < b ? a : b;
}

static inline pos_t pos_max(pos_t a, pos_t b)
{
    return a > b ? a : b;
}

/* A stretch of positions, [start, end); empty when end <= start. */
struct span {
    pos_t start;
    pos_t end;
};

static inline struct span span_of(pos_t start, pos_t size)
{
    return (struct span){start, start + size};
}

static inline bool span_is_empty(struct span span)
{
    return span.end <= span.start;
}

static inline struct span span_meet(struct span a, struct span b)
{
    return (struct span){pos_max(a.start, b.start), pos_min(a.end, b.end)};
}

/* The smallest span that holds both; neither is empty. */
static inline struct span span_join(struct span a, struct span b)
{
    return (struct span){pos_min(a.start, b.start), pos_max(a.end, b.end)};
}

static inline struct span span_shift(struct span span, pos_t by)
{
    return (struct span){span.start + by, span.end + by};
}

/* Bytes in a span; 0 when it is empty. */
static inline pos_t span_size(struct span span)
{
    return span_is_empty(span) ? 0 : span.end - span.start;
}

/* Does @outer hold every byte of @inner, which is not empty? */
static inline bool span_holds(struct span outer, struct span inner)
{
    return outer.start <= inner.start && inner.end <= outer.end;
}

/* The whole pages within a span; may come out empty. @page_bytes is a power of two. */
static inline struct span span_whole_pages(struct span span, uint64_t page_bytes)
{
    pos_t mask = ~((pos_t)page_bytes - 1);

    return (struct span){(span.start + (pos_t)page_bytes - 1) & mask, span.end & mask};
}

/* The pages that a span touches: a span within 2^64 stays within it. */
static inline struct span span_cover_pages(struct span span, uint64_t page_bytes)
{
    pos_t mask = ~((pos_t)page_bytes - 1);

    return (struct span){span.start & mask, (span.end + (pos_t)page_bytes - 1) & mask};
}

static inline bool span_meets(struct span a, struct span b)
{
    return a.start < b.end && b.start < a.end;
}

#endif
