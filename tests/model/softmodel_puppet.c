/* model/softmodel_puppet.c - a vCPU that does what a test tells it: see softmodel_puppet.h. */
#include "model/softmodel_puppet.h"
#include "model/require.h"

#include "base/point.h"

#include <stdatomic.h>
#include <string.h>

/* Whose thread this is. */
static _Thread_local struct puppet *self;
static _Atomic(void (*)(const char *point)) watcher;

static void on_point(const char *name)
{
    struct puppet *puppet = self;
    void (*watch)(const char *point) = atomic_load(&watcher);

    if (puppet == NULL) {
        if (watch != NULL) {
            watch(name);
        }
        return;
    }
    pthread_mutex_lock(&puppet->lock);
    if (puppet->stop_at != NULL && strcmp(puppet->stop_at, name) == 0) {
        puppet->stop_at = NULL;
        puppet->is_stopped = true;
        puppet->may_go_on = false;
        pthread_cond_broadcast(&puppet->changed);
        while (!puppet->may_go_on && !puppet->is_over) {
            pthread_cond_wait(&puppet->changed, &puppet->lock);
        }
        puppet->is_stopped = false;
        puppet->passed++;
        pthread_cond_broadcast(&puppet->changed);
    }
    pthread_mutex_unlock(&puppet->lock);
}

static enum gm_mmu_outcome make_linear(struct gm_mmu *mmu, struct puppet_access *access)
{
    uint64_t desired = access->value;

    switch ((unsigned)access->access) {
    case PUPPET_EXCHANGE:
        access->value = 0;
        return gm_mmu_cmpxchg_linear(mmu, access->gpa, 8, GM_MMU_SUPERVISOR, &access->value,
                                     desired);
    case GM_MMU_READ:
        return gm_mmu_load_linear(mmu, access->gpa, 8, GM_MMU_SUPERVISOR, &access->value);
    case GM_MMU_WRITE:
        return gm_mmu_store_linear(mmu, access->gpa, 8, GM_MMU_SUPERVISOR, access->value);
    default:
        return gm_mmu_fetch_linear(mmu, access->gpa, 8, GM_MMU_SUPERVISOR, &access->value);
    }
}

static enum gm_mmu_outcome make_once(struct puppet *puppet, struct puppet_access *access)
{
    enum gm_mmu_outcome outcome = gm_mmu_enter(puppet->mmu);
    uint64_t desired = access->value;

    /* Kicks are nobody's here, and rings have room. */
    REQUIRE(outcome == GM_MMU_OK, "entering: %d", (int)outcome);
    if (puppet->is_linear) {
        return make_linear(puppet->mmu, access);
    }
    switch ((unsigned)access->access) {
    case PUPPET_EXCHANGE:
        access->value = 0;
        return gm_mmu_cmpxchg(puppet->mmu, access->gpa, 8, &access->value, desired);
    case GM_MMU_READ:
        return gm_mmu_load(puppet->mmu, access->gpa, 8, &access->value);
    case GM_MMU_WRITE:
        return gm_mmu_store(puppet->mmu, access->gpa, 8, access->value);
    default:
        return gm_mmu_fetch(puppet->mmu, access->gpa, 8, &access->value);
    }
}

static void make(struct puppet *puppet, struct puppet_access *access)
{
    do {
        access->outcome = make_once(puppet, access);
    } while (access->outcome == GM_MMU_RESTART);
    access->error = access->outcome == GM_MMU_ERROR ? gm_mmu_exit(puppet->mmu)->error : 0;
    gm_mmu_leave(puppet->mmu);
}

static void *puppet_main(void *opaque)
{
    struct puppet *puppet = opaque;

    self = puppet;
    pthread_mutex_lock(&puppet->lock);
    while (!puppet->is_over) {
        struct puppet_access access;

        if (!puppet->is_asked) {
            pthread_cond_wait(&puppet->changed, &puppet->lock);
            continue;
        }
        access = puppet->access;
        pthread_mutex_unlock(&puppet->lock);
        make(puppet, &access);
        pthread_mutex_lock(&puppet->lock);
        puppet->access = access;
        puppet->is_asked = false;
        pthread_cond_broadcast(&puppet->changed);
    }
    pthread_mutex_unlock(&puppet->lock);
    return NULL;
}

void puppet_init(struct puppet *puppet, struct gm_soft *soft, unsigned id)
{
    memset(puppet, 0, sizeof(*puppet));
#ifdef GM_AUDIT_ON
    point_hook = on_point;
#else
    (void)on_point;
#endif
    REQUIRE(gm_soft_vcpu_new(soft, id, &puppet->vcpu) == 0, "a vCPU");
    puppet->mmu = gm_soft_vcpu_mmu(puppet->vcpu);
    pthread_mutex_init(&puppet->lock, NULL);
    pthread_cond_init(&puppet->changed, NULL);
    REQUIRE(pthread_create(&puppet->thread, NULL, puppet_main, puppet) == 0, "a thread");
}

void puppet_fini(struct puppet *puppet)
{
    pthread_mutex_lock(&puppet->lock);
    puppet->is_over = true;
    pthread_cond_broadcast(&puppet->changed);
    pthread_mutex_unlock(&puppet->lock);
    pthread_join(puppet->thread, NULL);
    gm_soft_vcpu_free(puppet->vcpu);
    pthread_cond_destroy(&puppet->changed);
    pthread_mutex_destroy(&puppet->lock);
}

void puppet_stop_at(struct puppet *puppet, const char *point)
{
    pthread_mutex_lock(&puppet->lock);
    puppet->stop_at = point;
    pthread_mutex_unlock(&puppet->lock);
}

void puppet_begin(struct puppet *puppet, enum gm_mmu_access access, uint64_t gpa, uint64_t value)
{
    pthread_mutex_lock(&puppet->lock);
    puppet->access = (struct puppet_access){.access = access, .gpa = gpa, .value = value};
    puppet->is_asked = true;
    pthread_cond_broadcast(&puppet->changed);
    pthread_mutex_unlock(&puppet->lock);
}

void puppet_wait_stopped(struct puppet *puppet)
{
    pthread_mutex_lock(&puppet->lock);
    while (!puppet->is_stopped) {
        REQUIRE(puppet->is_asked, "the access is over, and the point was never reached");
        pthread_cond_wait(&puppet->changed, &puppet->lock);
    }
    pthread_mutex_unlock(&puppet->lock);
}

void puppet_go_on(struct puppet *puppet)
{
    unsigned before;

    pthread_mutex_lock(&puppet->lock);
    before = puppet->passed;
    puppet->may_go_on = true;
    pthread_cond_broadcast(&puppet->changed);
    while (puppet->passed == before) {
        pthread_cond_wait(&puppet->changed, &puppet->lock);
    }
    pthread_mutex_unlock(&puppet->lock);
}

struct puppet_access puppet_end(struct puppet *puppet)
{
    struct puppet_access access;

    pthread_mutex_lock(&puppet->lock);
    while (puppet->is_asked) {
        pthread_cond_wait(&puppet->changed, &puppet->lock);
    }
    access = puppet->access;
    pthread_mutex_unlock(&puppet->lock);
    return access;
}

struct puppet_access puppet_do(struct puppet *puppet, enum gm_mmu_access access, uint64_t gpa,
                               uint64_t value)
{
    puppet_begin(puppet, access, gpa, value);
    return puppet_end(puppet);
}

void puppet_watch_others(void (*call)(const char *point))
{
    atomic_store(&watcher, call);
}

bool puppet_can_stop(void)
{
#ifdef GM_AUDIT_ON
    return true;
#else
    return false;
#endif
}
