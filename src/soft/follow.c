/* soft/follow.c - users who are told of slots: kcore's followers behind public structures. */
#include "base/alloc.h"
#include "base/options.h"
#include "soft/soft.h"

#include <errno.h>

static void on_created(void *opaque, const struct memslot *slot)
{
    const struct gm_soft_follower *follower = opaque;
    struct gm_soft_slot shown = soft_slot_of(slot);

    follower->ops.created(follower->opaque, &shown);
}

static void on_removing(void *opaque, const struct memslot *slot)
{
    const struct gm_soft_follower *follower = opaque;
    struct gm_soft_slot shown = soft_slot_of(slot);

    follower->ops.removing(follower->opaque, &shown);
}

static void on_flags_changed(void *opaque, const struct memslot *slot)
{
    const struct gm_soft_follower *follower = opaque;
    struct gm_soft_slot shown = soft_slot_of(slot);

    follower->ops.flags_changed(follower->opaque, &shown);
}

static const struct options_kind OPS = OPTIONS_KIND(gm_soft_follower_ops, flags_changed);

int gm_soft_follow(struct gm_soft *soft, const struct gm_soft_follower_ops *ops, void *opaque,
                   struct gm_soft_follower **out)
{
    struct gm_soft_follower_ops taken;
    struct gm_soft_follower *follower;
    int rc = options_take(&OPS, &taken, ops, NULL);

    if (rc != 0) {
        return rc;
    }
    if (taken.created == NULL || taken.removing == NULL) {
        return -EINVAL;
    }
    follower = mem_zalloc(&soft->allocator, sizeof(*follower));
    if (follower == NULL) {
        return -ENOMEM;
    }
    follower->soft = soft;
    follower->ops = taken;
    follower->opaque = opaque;
    follower->base = (struct kcore_follower){
        .created = on_created,
        .removing = on_removing,
        .flags_changed = taken.flags_changed != NULL ? on_flags_changed : NULL,
        .opaque = follower,
    };
    kcore_follow(&soft->core, &follower->base);
    *out = follower;
    return 0;
}

void gm_soft_unfollow(struct gm_soft_follower *follower)
{
    if (follower != NULL) {
        struct gm_soft *soft = follower->soft;

        kcore_unfollow(&soft->core, &follower->base);
        mem_free(&soft->allocator, follower);
    }
}
