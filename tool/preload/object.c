/* preload/object.c - which objects there are, who has them, and their end. */
#include "preload/object.h"

#include "preload/kernel.h"
#include "preload/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Open addressing by inode, at most half full; GONE was in use, and lookups go on behind it. */
#define TABLE_SIZE 65536u
#define POOL_BYTES 65536u
#define GONE ((struct object *)1)

static struct object *_Atomic table[TABLE_SIZE];
static atomic_uint object_count;
static atomic_flag lock = ATOMIC_FLAG_INIT; /* of all below, and of changes of the table */
static struct object *free_objects[2];
static struct object *_Atomic all_objects[2]; /* ever made, by kind; read without the lock */
static atomic_uint waiting;                   /* objects with a probe */
static char *pool;
static size_t pool_left;

/* ---- signals and locks ---- */

uint64_t signals_block(void)
{
    const uint64_t all = UINT64_MAX;
    uint64_t before = 0;

    kernel_call(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof(all));
    return before;
}

void signals_restore(uint64_t mask)
{
    kernel_call(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(mask));
}

/* Held for some instructions; a spin lock, so that a child of fork() can be given it open. */
static void lock_take(void)
{
    while (atomic_flag_test_and_set_explicit(&lock, memory_order_acquire)) {
        kernel_call(SYS_sched_yield);
    }
}

static void lock_drop(void)
{
    atomic_flag_clear_explicit(&lock, memory_order_release);
}

/* ---- this process ---- */

/* The kernel wipes the page where memory is copied, by fork() or any other way, and only there. */
static atomic_uint *not_a_copy;
static atomic_uint generation;

__attribute__((constructor(101))) static void watch_for_copies(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (page != MAP_FAILED && madvise(page, 4096, MADV_WIPEONFORK) == 0) {
        atomic_store((atomic_uint *)page, 1);
        not_a_copy = page;
    }
}

static unsigned this_generation(void)
{
    unsigned expected = 0;

    if (not_a_copy != NULL && atomic_load(not_a_copy) == 0 &&
        atomic_compare_exchange_strong(not_a_copy, &expected, 1)) {
        /* The parent's threads did not come along: what they had locked is nobody's. */
        atomic_fetch_add(&generation, 1);
        lock_drop();
    }
    return atomic_load(&generation);
}

bool object_is_ours(const struct object *object)
{
    return object->generation == this_generation();
}

bool object_any(void)
{
    return atomic_load_explicit(&object_count, memory_order_relaxed) != 0;
}

/* ---- memory ---- */

static struct object *take_from_pool(void)
{
    struct object *object;

    if (pool_left < sizeof(*object)) {
        void *more =
            mmap(NULL, POOL_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (more == MAP_FAILED) {
            return NULL;
        }
        pool = more;
        pool_left = POOL_BYTES;
    }
    object = (struct object *)(void *)pool;
    pool += sizeof(*object);
    pool_left -= sizeof(*object);
    return object;
}

struct object *object_new(enum object_kind kind)
{
    struct object *object;

    (void)this_generation();
    lock_take();
    object = free_objects[kind];
    if (object != NULL) {
        free_objects[kind] = object->next;
    } else {
        object = take_from_pool();
        if (object != NULL) {
            atomic_store(&object->following, atomic_load(&all_objects[kind]));
            atomic_store(&all_objects[kind], object);
        }
    }
    lock_drop();
    if (object != NULL) {
        object->kind = kind;
        object->soft = NULL;
        object->vcpu = NULL;
        object->vm = NULL;
        object->trace_slots = NULL;
        object->retired = NULL;
        object->generation = this_generation();
        object->pid = getpid();
        pthread_mutex_init(&object->slots_lock, NULL);
        atomic_store(&object->inode, 0);
        atomic_store(&object->probe, -1);
        atomic_store(&object->is_open, true);
    }
    return object;
}

void object_abandon(struct object *object)
{
    lock_take();
    object->next = free_objects[object->kind];
    free_objects[object->kind] = object;
    lock_drop();
}

/* ---- the table ---- */

static unsigned place_of(unsigned long inode)
{
    return (unsigned)(inode * UINT64_C(0x9e3779b97f4a7c15) >> 48) % TABLE_SIZE;
}

static unsigned place_after(unsigned place)
{
    return (place + 1) % TABLE_SIZE;
}

int object_publish(struct object *object, const struct descriptor *descriptor)
{
    unsigned place = place_of(descriptor->inode);
    int rc = -ENOMEM;

    lock_take();
    if (atomic_load(&object_count) < TABLE_SIZE / 2) {
        struct object *there = atomic_load(&table[place]);

        while (there != NULL && there != GONE) {
            place = place_after(place);
            there = atomic_load(&table[place]);
        }
        atomic_store(&object->inode, descriptor->inode);
        atomic_store(&object->references, 1);
        atomic_store(&table[place], object);
        atomic_fetch_add(&object_count, 1);
        rc = 0;
    }
    lock_drop();
    return rc;
}

/* Where nothing follows, nobody has to look behind what has gone. */
static void table_remove(const struct object *object)
{
    unsigned place = place_of(atomic_load(&object->inode));

    while (atomic_load(&table[place]) != object) {
        place = place_after(place);
    }
    atomic_store(&table[place], GONE);
    if (atomic_load(&table[place_after(place)]) == NULL) {
        while (atomic_load(&table[place]) == GONE) {
            atomic_store(&table[place], NULL);
            place = (place + TABLE_SIZE - 1) % TABLE_SIZE;
        }
    }
    atomic_fetch_sub(&object_count, 1);
}

static bool reference(struct object *object)
{
    unsigned count = atomic_load(&object->references);

    while (count != 0) {
        if (atomic_compare_exchange_weak(&object->references, &count, count + 1)) {
            return true;
        }
    }
    return false;
}

/* It may have become another one between the look and the reference. */
static struct object *find(unsigned long inode)
{
    for (unsigned place = place_of(inode);; place = place_after(place)) {
        struct object *object = atomic_load(&table[place]);

        if (object == NULL) {
            return NULL;
        }
        if (object != GONE && atomic_load(&object->inode) == inode && reference(object)) {
            if (atomic_load(&object->inode) == inode) {
                return object;
            }
            object_put(object);
        }
    }
}

struct object *object_of(int fd)
{
    unsigned long inode = object_any() ? descriptor_inode(fd) : 0;

    struct object *object = inode != 0 ? find(inode) : NULL;

    /* Without descriptors the file may have gone, and its number be another's. */
    if (object != NULL && !atomic_load(&object->is_open)) {
        object_put(object);
        object = NULL;
    }
    return object;
}

static struct object *first_ours(struct object *object)
{
    for (; object != NULL; object = atomic_load(&object->following)) {
        if (reference(object)) {
            if (object_is_ours(object)) {
                return object;
            }
            object_put(object);
        }
    }
    return NULL;
}

struct object *object_first(enum object_kind kind)
{
    return object_any() ? first_ours(atomic_load(&all_objects[kind])) : NULL;
}

struct object *object_after(struct object *object)
{
    return first_ours(atomic_load(&object->following));
}

/* ---- the end ---- */

/* A vCPU without descriptors stays in its VM, as in Linux: its id is taken, its ring is reset with the others. */
static void retire_vcpu(struct object *vcpu)
{
    struct object *vm = vcpu->vm;

    lock_take();
    table_remove(vcpu);
    vcpu->next = vm->retired;
    vm->retired = vcpu;
    lock_drop();
    object_put(vm);
}

/* All of its vCPUs have retired: the others have a reference each. */
static void destroy_vm(struct object *vm)
{
    while (vm->retired != NULL) {
        struct object *vcpu = vm->retired;

        vm->retired = vcpu->next;
        gm_soft_vcpu_free(vcpu->vcpu);
        object_abandon(vcpu);
    }
    (void)!gm_soft_close(vm->soft);
    lock_take();
    table_remove(vm);
    lock_drop();
    object_abandon(vm);
}

void object_get(struct object *object)
{
    atomic_fetch_add(&object->references, 1);
}

void object_put(struct object *object)
{
    if (atomic_fetch_sub(&object->references, 1) == 1) {
        uint64_t mask = signals_block();

        trace_gone(object);
        if (object->kind == OBJECT_VCPU) {
            retire_vcpu(object);
        } else {
            destroy_vm(object);
        }
        signals_restore(mask);
    }
}

static bool may_close(const struct object *object)
{
    return object_is_ours(object) && object->pid == getpid();
}

bool object_is_probe(int fd)
{
    struct object *object = object_of(fd);
    bool is_probe = object != NULL && may_close(object) && atomic_load(&object->probe) == fd;

    if (object != NULL) {
        object_put(object);
    }
    return is_probe;
}

void closing_begin(struct closing *closing, int fd)
{
    struct object *object = object_of(fd);

    *closing = (struct closing){object, fd, -1};
    if (object != NULL && may_close(object) && atomic_load(&object->probe) == -1) {
        closing->probe = descriptor_probe(fd);
    }
}

/* Nobody has it any more: the descriptors' reference goes, once. */
static bool is_gone(struct object *object, int probe)
{
    return flock(probe, LOCK_EX | LOCK_NB) == 0 && atomic_exchange(&object->is_open, false);
}

/* A probe of its own is looked at whenever something is closed that could have been the last. */
static void look(struct object *object)
{
    int probe = atomic_exchange(&object->probe, -1);

    if (probe == -1) {
        return;
    }
    if (is_gone(object, probe)) {
        close(probe);
        atomic_fetch_sub(&waiting, 1);
        object_put(object);
        return;
    }
    atomic_store(&object->probe, probe);
}

void closing_end(struct closing *closing, int rc)
{
    struct object *object = closing->object;
    int none = -1;

    if (object == NULL) {
        return;
    }
    if (rc >= 0) {
        trace_close(object, closing->fd);
    }
    if (closing->probe != -1) {
        int probe = descriptor_hide(closing->probe);

        if (atomic_compare_exchange_strong(&object->probe, &none, probe)) {
            atomic_fetch_add(&waiting, 1);
        } else {
            close(probe);
        }
    }
    if (may_close(object)) {
        look(object);
    }
    object_put(object);
}

void closing_look_again(void)
{
    struct object *following;

    if (atomic_load(&waiting) == 0) {
        return;
    }
    for (int kind = OBJECT_VM; kind <= OBJECT_VCPU; kind++) {
        for (struct object *object = object_first(kind); object != NULL; object = following) {
            if (may_close(object)) {
                look(object);
            }
            following = object_after(object);
            object_put(object);
        }
    }
}
