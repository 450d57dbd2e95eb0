/* model/shadowmap.c - a dictionary from a device's addresses to host addresses. */
#include "model/shadowmap.h"

#include "base/check.h"

/* Pages [first, last] of addresses: NULL, or from @hva on. */
static void set(struct shadowmap *shadow, uint64_t first, uint64_t last, uint8_t *hva)
{
    pthread_mutex_lock(&shadow->lock);
    for (uint64_t page = first / SHADOWMAP_PAGE_BYTES; page <= last / SHADOWMAP_PAGE_BYTES;
         page++) {
        GM_ASSERT(page < SHADOWMAP_PAGES);
        shadow->hva[page] = hva != NULL ? hva + (page * SHADOWMAP_PAGE_BYTES - first) : NULL;
    }
    pthread_mutex_unlock(&shadow->lock);
}

/* Where a map leads to, range by range; holes and devices are nothing that this device could reach. */
static void add_map(struct shadowmap *shadow, uint64_t first, const struct gm_iommu_event *event)
{
    struct gm_view *view = gm_view_get(event->space);
    uint64_t size_bytes = event->last - event->first + 1;

    for (uint64_t done = 0; done < size_bytes; done += SHADOWMAP_PAGE_BYTES) {
        struct gm_section section;

        if (gm_view_find(view, event->translated + done, &section) && section.hva != NULL) {
            set(shadow, first + done, first + done + SHADOWMAP_PAGE_BYTES - 1,
                (uint8_t *)section.hva + (event->translated + done - section.gpa));
        }
    }
    gm_view_put(view);
}

static void on_event(void *opaque, const struct gm_iommu_event *event)
{
    struct shadowmap_section *section = opaque;
    uint64_t first = section->gpa + (event->first - section->offset);

    if (event->kind == GM_IOMMU_MAP) {
        add_map(section->owner, first, event);
    } else {
        set(section->owner, first, first + (event->last - event->first), NULL);
    }
}

static struct shadowmap_section *find(struct shadowmap *shadow, bool is_free, gm_gpa_t gpa)
{
    for (unsigned i = 0; i < SHADOWMAP_SECTIONS; i++) {
        struct shadowmap_section *section = &shadow->sections[i];

        if (is_free ? section->notifier == NULL
                    : section->notifier != NULL && section->gpa == gpa) {
            return section;
        }
    }
    GM_ASSERT(false);
    return NULL;
}

static void on_add(void *opaque, const struct gm_section *section)
{
    struct shadowmap *shadow = opaque;
    struct shadowmap_section *added;
    struct gm_iommu_notifier_options options;

    if (section->hva != NULL) {
        set(shadow, section->gpa, section->last, section->hva);
    }
    if (gm_region_kind(section->region) != GM_REGION_IOMMU) {
        return;
    }
    added = find(shadow, true, 0);
    added->owner = shadow;
    added->gpa = section->gpa;
    added->offset = section->offset;
    options = (struct gm_iommu_notifier_options){
        .size = sizeof(options),
        .kinds = GM_IOMMU_MAP | GM_IOMMU_UNMAP,
        .first = section->offset,
        .last = section->offset + (section->last - section->gpa),
        .notify = on_event,
        .opaque = added,
    };
    GM_ASSERT(gm_iommu_register(section->region, &options, &added->notifier, NULL) == 0);
    GM_ASSERT(gm_iommu_replay(added->notifier) == 0);
}

static void on_del(void *opaque, const struct gm_section *section)
{
    struct shadowmap *shadow = opaque;

    if (gm_region_kind(section->region) == GM_REGION_IOMMU) {
        struct shadowmap_section *deleted = find(shadow, false, section->gpa);

        gm_iommu_unregister(deleted->notifier); /* after this, no map comes any more */
        deleted->notifier = NULL;
    }
    set(shadow, section->gpa, section->last, NULL);
}

void shadowmap_init(struct shadowmap *shadow, struct gm_space *space)
{
    static const struct gm_listener_ops ops = {
        .size = sizeof(ops), .region_add = on_add, .region_del = on_del};

    *shadow = (struct shadowmap){0};
    GM_ASSERT(pthread_mutex_init(&shadow->lock, NULL) == 0);
    GM_ASSERT(gm_listener_register(gm_space_map_of(space), space, 0, &ops, shadow,
                                   &shadow->listener, NULL) == 0);
}

void shadowmap_fini(struct shadowmap *shadow)
{
    GM_ASSERT(gm_listener_unregister(shadow->listener, NULL) == 0);
    pthread_mutex_destroy(&shadow->lock);
}

void *shadowmap_at(struct shadowmap *shadow, uint64_t page)
{
    void *hva;

    pthread_mutex_lock(&shadow->lock);
    hva = shadow->hva[page];
    pthread_mutex_unlock(&shadow->lock);
    return hva;
}
