/*
 * guestmem/host.h - loads and stores of host memory that other threads use at the same time, as guest memory is: a number at
 * once where it is aligned, acquire and release, which is how x86 orders a guest's own accesses, and free there.
 *
 * Nothing here checks anything: the memory has to be there. Any thread; no locks.
 */
#ifndef GUESTMEM_HOST_H
#define GUESTMEM_HOST_H

#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__SANITIZE_THREAD__)
#define GM_HOST_TSAN_ 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define GM_HOST_TSAN_ 1
#endif
#endif

/*
 * Copy @size_bytes out of shared memory, in any number of loads: a race with a store gives a mix of old and new bytes, which is
 * what a guest gets that does so. ThreadSanitizer is shown that this is meant: byte by byte, each an atomic one.
 */
static inline void gm_host_read(void *to, const void *from, unsigned size_bytes)
{
#ifdef GM_HOST_TSAN_
    for (unsigned i = 0; i < size_bytes; i++) {
        ((uint8_t *)to)[i] = __atomic_load_n((const uint8_t *)from + i, __ATOMIC_ACQUIRE);
    }
#else
    memcpy(to, from, size_bytes);
#endif
}

/* The same, into shared memory. */
static inline void gm_host_write(void *to, const void *from, unsigned size_bytes)
{
#ifdef GM_HOST_TSAN_
    for (unsigned i = 0; i < size_bytes; i++) {
        __atomic_store_n((uint8_t *)to + i, ((const uint8_t *)from)[i], __ATOMIC_RELEASE);
    }
#else
    memcpy(to, from, size_bytes);
#endif
}

/*
 * A number of 1, 2, 4 or 8 bytes in the host's order. Aligned: one load, acquire, pairing with gm_host_store() in whoever passes
 * data through guest memory. Unaligned: as gm_host_read().
 */
static inline uint64_t gm_host_load(const void *from, unsigned size_bytes)
{
    uint64_t value = 0;

    if (__builtin_expect(((uintptr_t)from & (size_bytes - 1)) != 0, 0)) {
        gm_host_read(&value, from, size_bytes);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        value >>= 64 - 8 * size_bytes;
#endif
        return value;
    }
    switch (size_bytes) {
    case 8:
        return __atomic_load_n((const uint64_t *)from, __ATOMIC_ACQUIRE);
    case 4:
        return __atomic_load_n((const uint32_t *)from, __ATOMIC_ACQUIRE);
    case 2:
        return __atomic_load_n((const uint16_t *)from, __ATOMIC_ACQUIRE);
    default:
        return __atomic_load_n((const uint8_t *)from, __ATOMIC_ACQUIRE);
    }
}

/* Aligned: one store, release, pairing with gm_host_load(). Unaligned: as gm_host_write(). */
static inline void gm_host_store(void *to, uint64_t value, unsigned size_bytes)
{
    if (__builtin_expect(((uintptr_t)to & (size_bytes - 1)) != 0, 0)) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        value <<= 64 - 8 * size_bytes;
#endif
        gm_host_write(to, &value, size_bytes);
        return;
    }
    switch (size_bytes) {
    case 8:
        __atomic_store_n((uint64_t *)to, value, __ATOMIC_RELEASE);
        break;
    case 4:
        __atomic_store_n((uint32_t *)to, (uint32_t)value, __ATOMIC_RELEASE);
        break;
    case 2:
        __atomic_store_n((uint16_t *)to, (uint16_t)value, __ATOMIC_RELEASE);
        break;
    default:
        __atomic_store_n((uint8_t *)to, (uint8_t)value, __ATOMIC_RELEASE);
        break;
    }
}

#ifdef __cplusplus
}
#endif

#endif
