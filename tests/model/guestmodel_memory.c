/* model/guestmodel_memory.c - the guest's memory against the model's, after each operation. */
#include "model/guestmodel_run.h"
#include "model/require.h"

#include "base/check.h"
#include "kcore/kcore.h"
#include "mmu/mmu.h"
#include "soft/soft.h"

#include <inttypes.h>
#include <string.h>

const uint8_t *guestrun_host(const struct guestrun *run, uint64_t offset)
{
    unsigned slot = offset < (uint64_t)GUEST_LOW_PAGES * GUEST_PAGE ? 0 : 1;
    uint64_t first = slot == 0 ? 0 : (uint64_t)GUEST_LOW_PAGES * GUEST_PAGE;

    return run->host[slot][run->in_use[slot]] + (offset - first);
}

static uint64_t host_word(const struct guestrun *run, uint64_t offset)
{
    uint64_t word;

    memcpy(&word, guestrun_host(run, offset), sizeof(word));
    return word;
}

void guestrun_add_flags(struct guestrun_effect *effect, const struct guest_walk *walk,
                        const struct guest_vcpu *vcpu, bool is_required)
{
    for (unsigned i = 0; i < walk->count; i++) {
        const struct guest_step *step = &walk->steps[i];
        uint64_t place = guest_memory_place(step->gpa);
        unsigned shift = vcpu->entry_bytes == 4 ? step->gpa % 8 * 8 : 0;

        if (step->flags == 0 || place == GUEST_NOWHERE) {
            continue;
        }
        REQUIRE(effect->flag_count < GUESTRUN_FLAGS, "too many flags");
        effect->flags[effect->flag_count++] =
            (struct guestrun_flag){place / 8 * 8, step->flags << shift, is_required};
    }
}

/* Bits of the word that a write covers, and what it puts there. */
static uint64_t written_bits(const struct guestrun_effect *effect, uint64_t word, uint64_t *value)
{
    uint64_t mask = 0;

    for (unsigned i = 0; i < effect->write_count; i++) {
        const struct guestrun_write *write = &effect->writes[i];

        for (unsigned byte = 0; byte < write->size_bytes; byte++) {
            uint64_t at = write->offset + byte;

            if (at / 8 * 8 == word) {
                mask |= UINT64_C(0xff) << (at % 8 * 8);
                *value &= ~(UINT64_C(0xff) << (at % 8 * 8));
                *value |= (uint64_t)write->bytes[byte] << (at % 8 * 8);
            }
        }
    }
    return mask;
}

static uint64_t flag_bits(const struct guestrun_effect *effect, uint64_t word, bool required)
{
    uint64_t mask = 0;

    for (unsigned i = 0; i < effect->flag_count; i++) {
        if (effect->flags[i].word == word && (!required || effect->flags[i].is_required)) {
            mask |= effect->flags[i].mask;
        }
    }
    return mask;
}

static bool is_word_right(struct guestrun *run, const struct guestrun_effect *effect, uint64_t word)
{
    uint64_t old = guest_memory_load(&run->model.memory, word, 8);
    uint64_t now = host_word(run, word);
    uint64_t value = old;
    uint64_t written = written_bits(effect, word, &value);
    uint64_t may = flag_bits(effect, word, false) & ~written;
    uint64_t must = flag_bits(effect, word, true) & ~written;

    return ((now ^ value) & ~may) == 0 && (now & must) == must && (value & ~now) == 0;
}

static bool is_page_same(const struct guestrun *run, unsigned page)
{
    uint64_t offset = (uint64_t)page * GUEST_PAGE;

    return memcmp(run->model.memory.bytes + offset, guestrun_host(run, offset), GUEST_PAGE) == 0;
}

bool guestrun_is_effect(struct guestrun *run, const struct guestrun_effect *effect)
{
    for (unsigned page = 0; page < GUEST_PAGES; page++) {
        if (is_page_same(run, page)) {
            continue;
        }
        for (unsigned i = 0; i < GUEST_PAGE / 8; i++) {
            uint64_t word = (uint64_t)page * GUEST_PAGE + i * 8;

            if (host_word(run, word) != guest_memory_load(&run->model.memory, word, 8) &&
                !is_word_right(run, effect, word)) {
                return false;
            }
        }
    }
    for (unsigned i = 0; i < effect->write_count; i++) {
        uint64_t last = effect->writes[i].offset + effect->writes[i].size_bytes - 1;

        if (!is_word_right(run, effect, effect->writes[i].offset / 8 * 8) ||
            !is_word_right(run, effect, last / 8 * 8)) {
            return false;
        }
    }
    for (unsigned i = 0; i < effect->flag_count; i++) {
        if (!is_word_right(run, effect, effect->flags[i].word)) {
            return false;
        }
    }
    return true;
}

void guestrun_print_difference(struct guestrun *run)
{
    for (uint64_t word = 0; word < GUEST_BYTES; word += 8) {
        uint64_t old = guest_memory_load(&run->model.memory, word, 8);

        if (host_word(run, word) != old) {
            fprintf(stderr, "  %#" PRIx64 ": %#" PRIx64 ", was %#" PRIx64 "\n",
                    guest_memory_gpa(word), host_word(run, word), old);
        }
    }
}

/* The page has been written: it is to be logged, and its tracker to be told. */
static void note_written(struct guestrun *run, uint64_t offset)
{
    unsigned page = (unsigned)(offset / GUEST_PAGE);

    run->must_be_dirty[page] = true;
    REQUIRE(!run->is_tracked[page] || run->is_told[page],
            "the tracker was not told of a write at %#" PRIx64, guest_memory_gpa(offset));
}

void guestrun_adopt(struct guestrun *run, const struct guestrun_effect *effect)
{
    struct guest_memory *memory = &run->model.memory;

    /* Flags that a write went over were there for a moment, in which a TLB may have seen them. */
    for (unsigned i = 0; i < effect->flag_count; i++) {
        uint64_t word = effect->flags[i].word;
        uint64_t old = guest_memory_load(memory, word, 8);
        uint64_t value = old;

        if (written_bits(effect, word, &value) != 0) {
            guest_memory_had_word(memory, word, old | flag_bits(effect, word, false));
        }
    }
    for (unsigned page = 0; page < GUEST_PAGES; page++) {
        for (unsigned i = 0; i < GUEST_PAGE / 8 && !is_page_same(run, page); i++) {
            uint64_t word = (uint64_t)page * GUEST_PAGE + i * 8;
            uint64_t now = host_word(run, word);

            if (now != guest_memory_load(memory, word, 8)) {
                guest_memory_set_word(memory, word, now);
                note_written(run, word);
                run->counts->flags += flag_bits(effect, word, false) != 0;
            }
        }
    }
    for (unsigned i = 0; i < effect->write_count; i++) {
        if (effect->writes[i].is_certain) {
            note_written(run, effect->writes[i].offset);
        }
    }
    for (unsigned page = 0; page < GUEST_PAGES; page++) {
        REQUIRE(!run->is_told[page] || run->is_tracked[page],
                "the tracker was told of page %u, which is not tracked", page);
        run->is_told[page] = false;
    }
}

/* Empty where there are no audits. */
static void audit(struct guestrun *run)
{
    struct kcore *core = &run->soft->core;

    kcore_hold(core);
    lock_take(&core->slots_lock);
    GM_AUDIT(kcore_audit(core));
    GM_AUDIT(mmu_audit(&run->soft->mmu));
    lock_drop(&core->slots_lock);
    kcore_release(core);
}

void guestrun_check(struct guestrun *run)
{
    const struct guestrun_effect nothing = {0};

    if (!guestrun_is_effect(run, &nothing)) {
        guestrun_print_difference(run);
        REQUIRE(false, "memory has changed");
    }
    audit(run);
}
