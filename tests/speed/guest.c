/*
 * speed/guest.c - what the software vCPU runs for its benchmark: compiled, freestanding integer code. Its memory is
 * from 2 MiB on; the result is left in the first word of that.
 */
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long u64;

#define WORK ((u8 *)0x200000)

static u64 random_next(u64 *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static __attribute__((noinline)) u32 crc32(const u8 *bytes, u64 count, const u32 *table)
{
    u32 crc = ~0u;

    for (u64 i = 0; i < count; i++) {
        crc = crc >> 8 ^ table[(u8)(crc ^ bytes[i])];
    }
    return ~crc;
}

static __attribute__((noinline)) void crc32_table(u32 *table)
{
    for (u32 i = 0; i < 256; i++) {
        u32 crc = i;

        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (0xedb88320u & (0 - (crc & 1)));
        }
        table[i] = crc;
    }
}

static __attribute__((noinline)) void sort(u32 *items, long low, long high)
{
    while (low < high) {
        u32 pivot = items[(low + high) / 2];
        long i = low, j = high;

        while (i <= j) {
            while (items[i] < pivot) {
                i++;
            }
            while (items[j] > pivot) {
                j--;
            }
            if (i <= j) {
                u32 item = items[i];

                items[i++] = items[j];
                items[j--] = item;
            }
        }
        sort(items, low, j);
        low = i;
    }
}

static __attribute__((noinline)) u32 sieve(u8 *marks, u32 count)
{
    u32 primes = 0;

    for (u32 i = 0; i < count; i++) {
        marks[i] = 0;
    }
    for (u32 i = 2; i < count; i++) {
        if (marks[i] == 0) {
            primes++;
            for (u32 j = i * 2; j < count; j += i) {
                marks[j] = 1;
            }
        }
    }
    return primes;
}

static __attribute__((noinline)) u64 matrix(const u32 *a, const u32 *b, u32 n)
{
    u64 sum = 0;

    for (u32 i = 0; i < n; i++) {
        for (u32 j = 0; j < n; j++) {
            u32 product = 0;

            for (u32 k = 0; k < n; k++) {
                product += a[i * n + k] * b[k * n + j];
            }
            sum = sum * 31 + product;
        }
    }
    return sum;
}

__attribute__((section(".text.unlikely"), used)) void _start(void)
{
    u64 rounds = *(volatile u64 *)(WORK + 8);
    u32 *table = (u32 *)(WORK + 0x1000);
    u32 *items = (u32 *)(WORK + 0x10000);
    u8 *marks = WORK + 0x80000;
    u64 state = 88172645463325252ul;
    u64 sum = 0;

    crc32_table(table);
    while (rounds-- > 0) {
        for (u32 i = 0; i < 20000; i++) {
            items[i] = (u32)random_next(&state);
        }
        sort(items, 0, 19999);
        sum = sum * 31 + crc32((u8 *)items, 80000, table);
        sum = sum * 31 + sieve(marks, 200000);
        sum = sum * 31 + matrix(items, items + 4096, 48);
    }
    *(volatile u64 *)WORK = sum;
    for (;;) {
        __asm__ volatile("hlt");
    }
}
