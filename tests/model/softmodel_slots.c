/* model/softmodel_slots.c - random changes of slots, one by one and in lists, right ones and wrong ones. */
#include "model/softmodel_run.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define LIST_MAX 6u

/* ---- where a slot may be ---- */

/* Some pages around a cluster, of memory of 4 KiB pages; now and then of memory that is not there. */
static void choose_small(struct softrun *run, struct gm_soft_slot *change)
{
    uint64_t page_count = 1 + rnd_below(&run->rnd, 20);
    const struct softhost_area *area = &run->host->areas[HOST_AREA_4K];
    uint64_t pages = area->size_bytes / SOFTMODEL_PAGE;

    change->size_bytes = page_count * SOFTMODEL_PAGE;
    change->gpa = run->clusters[rnd_below(&run->rnd, SOFTRUN_CLUSTERS)] +
                  rnd_below(&run->rnd, 24) * SOFTMODEL_PAGE;
    change->hva = area->start + rnd_below(&run->rnd, pages - page_count) * SOFTMODEL_PAGE;
    if (rnd_one_in(&run->rnd, 25)) {
        change->hva = rnd_one_in(&run->rnd, 4)
                          ? 0
                          : run->host->nowhere + rnd_below(&run->rnd, 16) * SOFTMODEL_PAGE;
    }
}

/* Megabytes and gigabytes above 4 GiB; guest and host addresses often alike, and often not quite. */
static void choose_large(struct softrun *run, struct gm_soft_slot *change)
{
    static const uint64_t sizes[] = {
        HOST_2M, 2 * HOST_2M + HOST_4K, 5 * HOST_2M,      64 * HOST_2M, HOST_1G,
        HOST_1G, HOST_1G + HOST_2M,     HOST_2M - HOST_4K};
    const struct softhost_area *area = &run->host->areas[HOST_AREA_1G];
    uint64_t room = HOST_AREA_1G_BYTES + HOST_AREA_2M_BYTES;
    uint64_t offset;

    change->size_bytes = sizes[rnd_below(&run->rnd, sizeof(sizes) / sizeof(sizes[0]))];
    offset = rnd_one_in(&run->rnd, 2) ? 0 : rnd_below(&run->rnd, 640) * HOST_2M;
    if (rnd_one_in(&run->rnd, 5)) {
        offset += rnd_below(&run->rnd, 512) * HOST_4K;
    }
    if (offset > room - change->size_bytes) {
        offset = rnd_one_in(&run->rnd, 2) ? room - change->size_bytes : 0;
    }
    change->hva = area->start + offset;
    change->gpa = (4 + rnd_below(&run->rnd, 8)) * HOST_1G + offset % HOST_1G;
    if (rnd_one_in(&run->rnd, 4)) {
        change->gpa = 4 * HOST_1G + rnd_below(&run->rnd, 2048) * HOST_2M + offset % HOST_2M;
    }
    if (rnd_one_in(&run->rnd, 8)) {
        change->gpa += rnd_below(&run->rnd, 3) * HOST_4K;
    }
}

static uint32_t random_flags(struct softrun *run)
{
    return (rnd_one_in(&run->rnd, 3) ? SOFTMODEL_LOG : 0) |
           (rnd_one_in(&run->rnd, 5) ? SOFTMODEL_READONLY : 0);
}

/* ---- changes ---- */

static struct gm_soft_slot as_it_is(const struct softmodel_slot *slot)
{
    return (struct gm_soft_slot){
        .slot = slot->id | (uint32_t)slot->space << 16,
        .flags = slot->flags,
        .gpa = slot->first * SOFTMODEL_PAGE,
        .size_bytes = slot->page_count * SOFTMODEL_PAGE,
        .hva = slot->hva,
    };
}

/* Something that Linux refuses, or takes though it looks wrong. */
static void spoil(struct softrun *run, struct gm_soft_slot *change)
{
    static const uint64_t sizes[] = {1, 4095, UINT64_C(1) << 43, UINT64_MAX - 4095, 0};
    static const uint64_t gpas[] = {1, UINT64_C(1) << 63, UINT64_MAX - 4095, 0x800};
    static const uint64_t hvas[] = {8, UINT64_C(0x7ffffffff000), UINT64_C(0xffff800000000000),
                                    UINT64_MAX - 4095};
    static const uint32_t ids[] = {32764, 32767, 0xffff, 0x20000, 0x7fff0000};

    switch (rnd_below(&run->rnd, 6)) {
    case 0:
        change->size_bytes = sizes[rnd_below(&run->rnd, 5)];
        break;
    case 1:
        change->gpa = gpas[rnd_below(&run->rnd, 4)];
        break;
    case 2:
        change->hva = hvas[rnd_below(&run->rnd, 4)];
        break;
    case 3:
        change->slot = ids[rnd_below(&run->rnd, 5)];
        break;
    case 4:
        change->flags |= 1u << (2 + rnd_below(&run->rnd, 30));
        break;
    default:
        change->gpa = (UINT64_C(1) << run->model.gpa_bits) - SOFTMODEL_PAGE;
        break;
    }
}

/* A change of a slot that is there. */
static void choose_change(struct softrun *run, struct gm_soft_slot *change)
{
    struct gm_soft_slot other = *change;

    switch (rnd_below(&run->rnd, 8)) {
    case 0:
    case 1:
        change->size_bytes = 0;
        if (rnd_one_in(&run->rnd, 3)) {
            change->hva += SOFTMODEL_PAGE;
            change->gpa = 0;
        }
        break;
    case 2:
    case 3:
        change->flags ^= SOFTMODEL_LOG;
        break;
    case 4:
    case 5:
        (change->size_bytes < HOST_2M - HOST_4K ? choose_small : choose_large)(run, &other);
        change->gpa = rnd_one_in(&run->rnd, 3) ? change->gpa + SOFTMODEL_PAGE : other.gpa;
        change->flags ^= rnd_one_in(&run->rnd, 4) ? SOFTMODEL_LOG : 0;
        break;
    case 6:
        change->flags ^= rnd_one_in(&run->rnd, 4) ? SOFTMODEL_READONLY : 0;
        change->size_bytes += rnd_one_in(&run->rnd, 4) ? SOFTMODEL_PAGE : 0;
        break;
    default:
        change->hva += rnd_one_in(&run->rnd, 2) ? SOFTMODEL_PAGE : 0;
        break;
    }
}

static void choose(struct softrun *run, struct gm_soft_slot *change)
{
    uint32_t number =
        (uint32_t)rnd_below(&run->rnd, SOFTRUN_IDS) | (rnd_one_in(&run->rnd, 3) ? 1u << 16 : 0);
    const struct softmodel_slot *slot = softmodel_by_number(&run->model, number);

    if (slot != NULL && !rnd_one_in(&run->rnd, 30)) {
        *change = as_it_is(slot);
        choose_change(run, change);
    } else {
        *change = (struct gm_soft_slot){.slot = number, .flags = random_flags(run)};
        if (rnd_one_in(&run->rnd, 3)) {
            choose_large(run, change);
        } else {
            choose_small(run, change);
        }
    }
    if (rnd_one_in(&run->rnd, 12)) {
        spoil(run, change);
    }
}

/* A list that Linux's ioctls cannot make at once: a slot deleted and made anew, two that change places. */
static size_t choose_list(struct softrun *run, struct gm_soft_slot *list)
{
    const struct softmodel_slot *one =
        softmodel_by_number(&run->model, (uint32_t)rnd_below(&run->rnd, SOFTRUN_IDS));
    const struct softmodel_slot *other =
        softmodel_by_number(&run->model, (uint32_t)rnd_below(&run->rnd, SOFTRUN_IDS));
    size_t count;

    if (one != NULL && other != NULL && one != other && rnd_one_in(&run->rnd, 2)) {
        list[0] = as_it_is(one);
        list[1] = as_it_is(other);
        list[2] = list[0];
        list[3] = list[1];
        list[0].size_bytes = 0;
        list[1].size_bytes = 0;
        list[2].gpa = list[3].gpa;
        list[3].gpa = one->first * SOFTMODEL_PAGE;
        return 4;
    }
    if (one != NULL && rnd_one_in(&run->rnd, 2)) {
        list[0] = as_it_is(one);
        list[1] = list[0];
        list[0].size_bytes = 0;
        list[1].flags = random_flags(run);
        list[1].hva += rnd_one_in(&run->rnd, 2) ? SOFTMODEL_PAGE : 0;
        return 2;
    }
    count = 1 + rnd_below(&run->rnd, LIST_MAX);
    for (size_t i = 0; i < count; i++) {
        choose(run, &list[i]);
    }
    return count;
}

/* ---- making them ---- */

/* By one of the three doors. */
static int change_one(struct softrun *run, const struct gm_soft_slot *change)
{
    struct kvm_userspace_memory_region region = {.slot = change->slot,
                                                 .flags = change->flags,
                                                 .guest_phys_addr = change->gpa,
                                                 .memory_size = change->size_bytes,
                                                 .userspace_addr = change->hva};
    struct kvm_userspace_memory_region2 region2 = {.slot = change->slot,
                                                   .flags = change->flags,
                                                   .guest_phys_addr = change->gpa,
                                                   .memory_size = change->size_bytes,
                                                   .userspace_addr = change->hva};
    uint64_t door = rnd_below(&run->rnd, 3);

    if (door == 0 || (door == 1 && (change->flags & KVM_MEM_GUEST_MEMFD) != 0)) {
        return gm_soft_set_slots(run->soft, change, 1, NULL);
    }
    return (
        int)(door == 1
                 ? gm_soft_vm_ioctl(run->soft, KVM_SET_USER_MEMORY_REGION2, (unsigned long)&region2)
                 : gm_soft_vm_ioctl(run->soft, KVM_SET_USER_MEMORY_REGION, (unsigned long)&region));
}

/* ---- slots with a guest memfd ---- */

/* A part of the memfd that no slot has; false: there is none that is large enough. */
static bool find_part(struct softrun *run, uint64_t size_bytes, uint64_t *offset)
{
    *offset = 0;
    for (unsigned i = 0; i < SOFTMODEL_SLOTS; i++) {
        const struct softmodel_slot *slot = &run->model.slots[i];
        uint64_t part = slot->private_hva - run->host->memfd;
        uint64_t part_bytes = slot->page_count * SOFTMODEL_PAGE;

        if (slot->is_used && slot->private_hva != 0 && part < *offset + size_bytes &&
            *offset < part + part_bytes) {
            *offset = part + part_bytes;
            i = (unsigned)-1; /* look at all of them again */
        }
    }
    return *offset + size_bytes <= HOST_MEMFD_BYTES;
}

void softrun_set_memfd_slot(struct softrun *run)
{
    struct gm_soft_slot change = {.slot = (uint32_t)rnd_below(&run->rnd, SOFTRUN_IDS),
                                  .flags = SOFTMODEL_GUEST_MEMFD};
    struct kvm_userspace_memory_region2 region = {.flags = KVM_MEM_GUEST_MEMFD};
    uint64_t offset;
    long result;
    int wanted;

    choose_small(run, &change);
    if (run->memfd < 0 || !find_part(run, change.size_bytes, &offset)) {
        return;
    }
    region.slot = change.slot;
    region.guest_phys_addr = change.gpa;
    region.memory_size = change.size_bytes;
    region.userspace_addr = change.hva;
    region.guest_memfd = (uint32_t)run->memfd;
    region.guest_memfd_offset = offset;
    result = gm_soft_vm_ioctl(run->soft, KVM_SET_USER_MEMORY_REGION2, (unsigned long)&region);
    if (result == -ENOMEM && run->faults.has_failed) {
        run->counts->no_memory++;
        return;
    }
    if (run->is_traced) {
        softrun_print_changes(&change, 1);
    }
    wanted = softmodel_set_memfd_slot(&run->model, &change, run->host->memfd + offset);
    REQUIRE(result == wanted, "a slot with a guest memfd: %ld, not %d", result, wanted);
    softrun_check_followed(run);
}

/* ---- rings, and what they hold of slots that go ---- */

static bool has_logged_slot(const struct softmodel *model)
{
    for (unsigned i = 0; i < SOFTMODEL_SLOTS; i++) {
        if (model->slots[i].dirty != NULL) {
            return true;
        }
    }
    return false;
}

/* What rings hold of slots that change cannot be told from what they should not hold. */
static void prepare_rings(struct softrun *run)
{
    if (run->model.has_rings && has_logged_slot(&run->model)) {
        if (rnd_one_in(&run->rnd, 2)) {
            softrun_empty_rings(run);
        } else {
            run->rings_are_lax = true;
        }
    }
}

void softrun_print_changes(const struct gm_soft_slot *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        fprintf(stderr, "slot %#x flags %#x gpa %#" PRIx64 " size %#" PRIx64 " hva %#" PRIx64 "\n",
                list[i].slot, list[i].flags, list[i].gpa, list[i].size_bytes, list[i].hva);
    }
}

void softrun_change_slots(struct softrun *run)
{
    struct gm_soft_slot list[LIST_MAX];
    size_t count = 1;
    size_t failed = SIZE_MAX;
    size_t model_failed = SIZE_MAX;
    int result;
    int wanted;

    prepare_rings(run);
    if (rnd_one_in(&run->rnd, 3)) {
        count = choose_list(run, list);
        result = gm_soft_set_slots(run->soft, list, count, &failed);
    } else {
        choose(run, list);
        result = change_one(run, list);
    }
    if (result == -ENOMEM && run->faults.has_failed) {
        run->counts->no_memory++;
        return;
    }
    if (run->is_traced) {
        softrun_print_changes(list, count);
    }
    wanted = softmodel_set_slots(&run->model, list, count, &model_failed);
    run->counts->slot_changes++;
    run->counts->slot_errors += wanted != 0;
    if (result != wanted) {
        softrun_print_changes(list, count);
    }
    REQUIRE(result == wanted, "%zu changes of slots: %d, not %d", count, result, wanted);
    REQUIRE(failed == SIZE_MAX || failed == model_failed, "change %zu failed, not %zu", failed,
            model_failed);
    softrun_check_followed(run);
}

/* ---- the follower ---- */

void softrun_check_followed(struct softrun *run)
{
    unsigned count = 0;

    for (unsigned i = 0; i < SOFTMODEL_SLOTS; i++) {
        const struct softmodel_slot *slot = &run->model.slots[i];
        struct gm_soft_slot wanted;
        bool is_known = slot->is_private;

        if (!slot->is_used) {
            continue;
        }
        count++;
        wanted = as_it_is(slot);
        for (unsigned k = 0; k < run->followed_count; k++) {
            const struct gm_soft_slot *have = &run->followed[k];

            is_known = is_known || (have->slot == wanted.slot && have->flags == wanted.flags &&
                                    have->gpa == wanted.gpa && have->hva == wanted.hva &&
                                    have->size_bytes == wanted.size_bytes);
        }
        REQUIRE(is_known, "the follower does not know slot %#x as it is", wanted.slot);
    }
    REQUIRE(count == run->followed_count, "the follower knows %u slots, not %u",
            run->followed_count, count);
}
