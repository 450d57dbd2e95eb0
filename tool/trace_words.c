/* trace_words.c - the names and numbers that stand in traces. */
#include "trace.h"

#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>

/* Of Linux 6.8; the system's header may be older. */
#ifndef KVM_SET_USER_MEMORY_REGION2
#define KVM_SET_USER_MEMORY_REGION2 0x40a0ae49
#endif
#ifndef KVM_SET_MEMORY_ATTRIBUTES
#define KVM_SET_MEMORY_ATTRIBUTES 0x4020aed2
#endif
#ifndef KVM_CREATE_GUEST_MEMFD
#define KVM_CREATE_GUEST_MEMFD 0xc040aed4
#endif
#ifndef KVM_PRE_FAULT_MEMORY
#define KVM_PRE_FAULT_MEMORY 0xc040aed5
#endif
#ifndef KVM_MEM_GUEST_MEMFD
#define KVM_MEM_GUEST_MEMFD (1u << 2)
#endif

#define REQUEST(name, call)                                                                        \
    {                                                                                              \
#name, name, call                                                                          \
    }

static const struct {
    const char *name;
    uint64_t request;
    enum trace_call call;
} requests[] = {
    REQUEST(KVM_RUN, TRACE_RUN),
    REQUEST(KVM_SET_USER_MEMORY_REGION, TRACE_SET_REGION),
    REQUEST(KVM_SET_USER_MEMORY_REGION2, TRACE_SET_REGION),
    REQUEST(KVM_GET_DIRTY_LOG, TRACE_GET_LOG),
    REQUEST(KVM_CLEAR_DIRTY_LOG, TRACE_CLEAR_LOG),
    REQUEST(KVM_RESET_DIRTY_RINGS, TRACE_RESET_RINGS),
    REQUEST(KVM_ENABLE_CAP, TRACE_ENABLE_CAP),
    REQUEST(KVM_CREATE_VM, TRACE_VM_CREATE),
    REQUEST(KVM_CREATE_VCPU, TRACE_VCPU_CREATE),
    REQUEST(KVM_SET_MEMORY_ATTRIBUTES, TRACE_SET_ATTRIBUTES),
    REQUEST(KVM_CREATE_GUEST_MEMFD, TRACE_GUEST_MEMFD),
    REQUEST(KVM_PRE_FAULT_MEMORY, TRACE_PRE_FAULT),
};

#define REQUEST_COUNT (sizeof(requests) / sizeof(requests[0]))

static const struct {
    const char *name;
    uint32_t bit;
} flag_names[] = {
    {"LOG_DIRTY_PAGES", KVM_MEM_LOG_DIRTY_PAGES},
    {"READONLY", KVM_MEM_READONLY},
    {"GUEST_MEMFD", KVM_MEM_GUEST_MEMFD},
};

#define FLAG_COUNT (sizeof(flag_names) / sizeof(flag_names[0]))

enum trace_call trace_call_by_name(struct word name)
{
    size_t i;

    for (i = 0; i < REQUEST_COUNT; i++) {
        if (word_is(name, requests[i].name)) {
            return requests[i].call;
        }
    }
    return TRACE_OTHER;
}

bool trace_is_request(struct word name)
{
    size_t i;

    for (i = 0; i < name.length; i++) {
        char c = name.text[i];

        if (!(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') && c != '_') {
            return false;
        }
    }
    return name.length > 4 && memcmp(name.text, "KVM_", 4) == 0;
}

bool trace_call_by_number(uint64_t request, enum trace_call *call, const char **name)
{
    size_t i;

    for (i = 0; i < REQUEST_COUNT; i++) {
        if (requests[i].request == request) {
            *call = requests[i].call;
            *name = requests[i].name;
            return true;
        }
    }
    return false;
}

const char *trace_errno_name(struct word name)
{
    int error;

    for (error = 1; error < 600; error++) { /* Linux has 133; and 512 to 530, which stay inside */
        const char *known = strerrorname_np(error);

        if (known != NULL && word_is(name, known)) {
            return known;
        }
    }
    return NULL;
}

static bool digits(struct word word, unsigned base, uint64_t *value)
{
    size_t i;

    *value = 0;
    for (i = 0; i < word.length; i++) {
        char c = word.text[i];
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                                : 16;

        if (digit >= base || __builtin_mul_overflow(*value, base, value) ||
            __builtin_add_overflow(*value, digit, value)) {
            return false;
        }
    }
    return word.length > 0;
}

bool trace_number(struct word word, uint64_t *value)
{
    if (word.length > 2 && word.text[0] == '0' && word.text[1] == 'x') {
        return digits((struct word){word.text + 2, word.length - 2}, 16, value);
    }
    return digits(word, 10, value);
}

bool trace_seconds(struct word word, uint64_t *us)
{
    struct word fraction = word;
    struct word whole = trace_split(&fraction, '.');
    uint64_t seconds;
    uint64_t part = 0;
    size_t i;

    if (!digits(whole, 10, &seconds) || seconds > UINT64_MAX / 2000000) {
        return false;
    }
    for (i = 0; i < fraction.length; i++) {
        if (fraction.text[i] < '0' || fraction.text[i] > '9') {
            return false;
        }
    }
    for (i = 0; i < 6; i++) {
        part = part * 10 + (i < fraction.length ? (uint64_t)(fraction.text[i] - '0') : 0);
    }
    *us = seconds * 1000000 + part;
    return whole.length == word.length || fraction.length > 0;
}

static bool flag_of(struct word word, uint64_t *value)
{
    size_t i;

    if (word.length > 8 && memcmp(word.text, "KVM_MEM_", 8) == 0) {
        word = (struct word){word.text + 8, word.length - 8};
    }
    for (i = 0; i < FLAG_COUNT; i++) {
        if (word_is(word, flag_names[i].name)) {
            *value = flag_names[i].bit;
            return true;
        }
    }
    return trace_number(word, value) && *value <= UINT32_MAX;
}

bool trace_flags(struct word word, uint32_t *flags)
{
    *flags = 0;
    if (word.length > 0 && word.text[word.length - 1] == '|') {
        return false;
    }
    do {
        uint64_t bits;

        if (!flag_of(trace_split(&word, '|'), &bits)) {
            return false;
        }
        *flags |= (uint32_t)bits;
    } while (word.length > 0);
    return true;
}

const char *trace_flags_text(uint32_t flags, char text[TRACE_FLAGS_BYTES])
{
    int used = 0;
    size_t i;

    for (i = 0; i < FLAG_COUNT; i++) {
        if ((flags & flag_names[i].bit) != 0) {
            used += sprintf(text + used, "%s%s", used > 0 ? "|" : "", flag_names[i].name);
            flags &= ~flag_names[i].bit;
        }
    }
    if (flags != 0) {
        used += sprintf(text + used, "%s0x%x", used > 0 ? "|" : "", flags);
    }
    text[used] = '\0';
    return text;
}

struct word trace_split(struct word *rest, char separator)
{
    const char *at = rest->length > 0 ? memchr(rest->text, separator, rest->length) : NULL;
    struct word first = *rest;

    if (at == NULL) {
        *rest = (struct word){rest->text + rest->length, 0};
        return first;
    }
    first.length = (size_t)(at - rest->text);
    *rest = (struct word){at + 1, rest->length - first.length - 1};
    return first;
}

void trace_copy(char *to, size_t size_bytes, struct word word)
{
    size_t length = word.length < size_bytes - 1 ? word.length : size_bytes - 1;

    memcpy(to, word.text, length);
    to[length] = '\0';
}
