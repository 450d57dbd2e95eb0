/*
 * fuzz/soft_ioctl.h - ioctls on the software KVM, at random: a user's memory with pages of all kinds in it, and the requests
 * with what their structures look like.
 */
#ifndef FUZZ_SOFT_IOCTL_H
#define FUZZ_SOFT_IOCTL_H

#include "model/faults.h"

#include <guestmem/soft.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define USER_PAGE 4096u

/* Pages of the user's memory, from its beginning. Around it nothing is mapped, for as far as a slot reaches. */
enum user_page {
    USER_DATA = 0,      /* structures stand here */
    USER_READ_ONLY = 8, /* so that one may end in it */
    USER_HOLE = 9,
    USER_GUEST = 10, /* what slots mostly show */
    USER_PAGES = 42,
};

struct user {
    uint8_t *base;
};

/* Made once; begins as zeroes each time. */
void user_begin(struct user *user);
void user_end(struct user *user);

/* One of those addresses that matter. */
uint64_t user_some_address(const struct user *user);
/* The same address if nothing but the user's memory, or no memory at all, is there: else one that is the user's. */
uint64_t user_tame(const struct user *user, uint64_t address, uint64_t size_bytes);
/* Do they all lie in pages that can always be written? */
bool user_is_data(const struct user *user, uint64_t address, uint64_t size_bytes);
/* Is it in those that slots mostly show? */
bool user_is_guests(const struct user *user, uint64_t address);
/* Is none of them mapped? */
bool user_is_nowhere(const struct user *user, uint64_t address, uint64_t size_bytes);
/* Discard a page, or change its protection: of those behind the data. */
void user_protect(struct user *user, unsigned page, unsigned how);

enum level { LEVEL_SYSTEM, LEVEL_VM, LEVEL_VCPU };

struct request {
    unsigned long number;
    enum level level;
    uint8_t address_at; /* offset of an address within the structure; 0: none */
    uint8_t size_at;    /* KVM_SET_USER_MEMORY_REGION: of the size of what is there */
    bool takes_number;  /* the argument is one, and no address */
};

/* One of them, mostly of that level. */
const struct request *request_some(enum level level);
/* Any number, which may be a request. */
unsigned long request_any_number(void);

/* ---- a VM under test ---- */

#define VCPUS 2u
#define FILES 4u
#define MEMFDS_MAX 4u

struct session {
    struct faults faults;
    struct gm_allocator allocator;
    struct user user;
    struct gm_soft *soft;
    struct gm_soft_vcpu *vcpus[VCPUS];
    int files[FILES]; /* eventfds */
    int memfds[MEMFDS_MAX];
    unsigned memfd_count, run_count;
};

/* Any value, often one that means something. */
uint64_t soft_some_value(struct session *session);
/* What KVM_CREATE_GUEST_MEMFD has returned. */
void soft_take_memfd(struct session *session, long rc);

/* ---- soft_guest.c: what reaches deeper than values at random ---- */

/* A slot of good memory, and the first vCPU at its beginning in real mode. */
void soft_boot(struct session *session);
/* A few instructions are put there, which reach devices, memory and what is neither. */
void soft_program(struct session *session);
/* Attributes, guest memfds, eventfds, coalesced zones, interrupts: nearly good ones. */
void soft_use_device(struct session *session);

#endif
