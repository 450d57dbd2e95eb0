/* conformance/ept/guest/guest.c - ask the processor each of the image's questions: see image.h. */
#include "guest.h"

#define CPUID_ADDRESS_SIZES 0x80000008

static uint64_t *word_at(uint64_t address)
{
    return (uint64_t *)address;
}

/* Where in @frame a leaf of its size would lead for @gpa. */
static uint64_t candidate(const struct oracle_frame *frame, uint64_t gpa)
{
    return frame->address + (gpa & (frame->size_bytes - 1));
}

/* Small frames are marked all over; of large ones only the words that a question can lead to. */
static void mark_frame(const struct oracle_image *image, const struct oracle_frame *frame,
                       uint64_t call)
{
    const struct oracle_query *queries = image_part(image, image->queries_offset);

    if (frame->size_bytes == PAGE_BYTES) {
        for (uint64_t offset = 0; offset < PAGE_BYTES; offset += 8) {
            *word_at(frame->address + offset) = ORACLE_WORD(call, frame->address + offset);
        }
        return;
    }
    for (uint64_t i = 0; i < image->query_count; i++) {
        uint64_t address = candidate(frame, queries[i].gpa);

        *word_at(address) = ORACLE_WORD(call, address);
    }
}

/* A write is found by the word that it left, which is put right again. */
static void find_written(const struct oracle_image *image, uint64_t gpa, uint64_t call,
                         struct oracle_answer *answer)
{
    const struct oracle_frame *frames = image_part(image, image->frames_offset);
    uint64_t found_count = 0;

    for (uint64_t i = 0; i < image->frame_count; i++) {
        uint64_t address = candidate(&frames[i], gpa);

        if (*word_at(address) == ORACLE_WRITTEN) {
            *word_at(address) = ORACLE_WORD(call, address);
            answer->address = address;
            found_count++;
        }
    }
    answer->outcome = found_count == 1 ? ORACLE_OK : ORACLE_LOST;
    answer->detail = found_count == 1 ? 0 : found_count;
}

static void ask(const struct oracle_image *image, const struct engine *engine,
                const struct oracle_query *query, struct oracle_answer *answer)
{
    uint64_t linear = LINEAR_TARGET + (query->gpa & (PAGE_BYTES - 1));
    struct registers registers = {.rax = ORACLE_WRITTEN, .rdi = linear};
    struct exit exit;
    uint64_t rip = linear;

    if (query->kind != ORACLE_FETCH) {
        rip = window_code(query->kind == ORACLE_READ ? engine->code_read : engine->code_write);
    }
    window_aim(query->gpa);
    engine->run(rip, &registers, &exit);
    answer->outcome = exit.outcome;
    answer->detail = exit.detail;
    answer->address = exit.address;
    if (exit.outcome != ORACLE_OK) {
        return;
    }
    answer->detail = 0;
    if (query->kind == ORACLE_WRITE) {
        find_written(image, query->gpa, engine->word_call, answer);
    } else if (query->kind == ORACLE_FETCH) {
        answer->address = (registers.rax & 0xffffffff) << 3;
    } else if ((registers.rax & ORACLE_WORD_MASK) == ORACLE_WORD(engine->word_call, 0)) {
        answer->address = (registers.rax >> 8 & 0xffffffff) << 3;
    } else {
        answer->outcome = ORACLE_STRANGE;
        answer->address = registers.rax;
    }
}

static void send_tables(const struct oracle_image *image)
{
    const uint64_t *words = image_part(image, image->tables_offset);
    struct oracle_entry entry = {.table = ORACLE_ENTRY_END};

    for (uint64_t i = 0; i < image->table_count * TABLE_ENTRIES; i++) {
        if (words[i] != 0) {
            struct oracle_entry present = {i / TABLE_ENTRIES, i % TABLE_ENTRIES, words[i]};

            port_send(&present, sizeof(present));
        }
    }
    port_send(&entry, sizeof(entry));
}

void guest_main(void);
void guest_main(void)
{
    const struct oracle_image *image = (const struct oracle_image *)ORACLE_IMAGE_ADDRESS;
    const struct engine *engine = image->format == ORACLE_FORMAT_EPT ? &vmx_engine : &svm_engine;
    const struct oracle_frame *frames = image_part(image, image->frames_offset);
    const struct oracle_query *queries = image_part(image, image->queries_offset);
    struct oracle_greeting greeting = {.magic = ORACLE_GREETING_MAGIC};
    bool ready;

    greeting.physical_bits = cpuid(CPUID_ADDRESS_SIZES).eax & 0xff;
    ready = image->magic == ORACLE_IMAGE_MAGIC && window_open(image, engine) &&
            engine->start(image, window_cr3(image), &greeting);
    if (!ready) {
        greeting.magic = 0;
    }
    port_send(&greeting, sizeof(greeting));
    for (uint64_t i = 0; ready && i < image->frame_count; i++) {
        mark_frame(image, &frames[i], engine->word_call);
    }
    for (uint64_t i = 0; ready && i < image->query_count; i++) {
        struct oracle_answer answer;

        ask(image, engine, &queries[i], &answer);
        port_send(&answer, sizeof(answer));
    }
    if (ready) {
        window_close();
        send_tables(image);
    }
    port_power_off();
}
