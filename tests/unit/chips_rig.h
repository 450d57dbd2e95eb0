/*
 * unit/chips_rig.h - a software VM with interrupt chips; real-mode programs that are put together; a thread that acts when the
 * vCPU sleeps.
 */
#ifndef UNIT_CHIPS_RIG_H
#define UNIT_CHIPS_RIG_H

#include "run_rig.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#define DONE_PORT 0x99

/* ---- machines ---- */

static inline struct rig chips_new(void)
{
    struct rig rig = rig_new_without_vcpu(NULL);
    const struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};

    assert_int_equal(rig_call_number(&rig, KVM_CREATE_IRQCHIP, 0), 0);
    assert_int_equal(rig_call(&rig, KVM_CREATE_PIT2, &pit), 0);
    rig_add_vcpu(&rig);
    assert_int_equal(rig_set(&rig, 0, 0, 0, RIG_BYTES, 0), 0);
    return rig;
}

/* A program that is put together. */
struct program {
    uint8_t bytes[512];
    size_t count;
};

static inline void emit(struct program *program, const void *bytes, size_t count)
{
    assert_true(program->count + count <= sizeof(program->bytes));
    memcpy(program->bytes + program->count, bytes, count);
    program->count += count;
}
#define EMIT(program, ...)                                                                         \
    emit((program), (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static inline void emit_out(struct program *program, uint8_t port, uint8_t value)
{
    EMIT(program, 0xb0, value, 0xe6, port); /* mov al; out port,al */
}

/* mov dword [gpa],value: through a flat segment */
static inline void emit_store(struct program *program, uint32_t gpa, uint32_t value)
{
    EMIT(program, 0x67, 0x66, 0xc7, 0x05);
    emit(program, &gpa, 4);
    emit(program, &value, 4);
}

/* PICs: vectors 0x20 and 0x28 on, nothing is masked but the timer. */
static inline void emit_pics(struct program *program)
{
    emit_out(program, 0x20, 0x11);
    emit_out(program, 0x21, 0x20);
    emit_out(program, 0x21, 0x04);
    emit_out(program, 0x21, 0x01);
    emit_out(program, 0xa0, 0x11);
    emit_out(program, 0xa1, 0x28);
    emit_out(program, 0xa1, 0x02);
    emit_out(program, 0xa1, 0x01);
    emit_out(program, 0x21, 0x01);
    emit_out(program, 0xa1, 0x00);
}

static inline void emit_apic(struct program *program)
{
    emit_store(program, 0xfee000f0, 0x1ff); /* on */
}

/* Its handler of a vector, for all: out DONE_PORT,al with the vector; iret */
static inline void set_handler_of(struct rig *rig, uint8_t vector)
{
    uint8_t code[] = {0xb0, vector, 0xe6, DONE_PORT, 0xcf};
    uint16_t at = (uint16_t)(0x2000 + vector * 8);
    const uint16_t entry[] = {at, 0};

    memcpy(rig->memory + at, code, sizeof(code));
    memcpy(rig->memory + vector * 4, entry, sizeof(entry));
}

static inline void start(struct rig *rig, const struct program *program)
{
    run_load(rig, rig->vcpu, program->bytes, program->count);
}

static inline void assert_done(struct rig *rig, uint8_t vector)
{
    assert_run_exits(rig, KVM_EXIT_IO);
    assert_int_equal(run_page(rig)->io.port, DONE_PORT);
    assert_int_equal(((uint8_t *)run_page(rig))[run_page(rig)->io.data_offset], vector);
}

static inline long set_line(struct rig *rig, uint32_t gsi, uint32_t level)
{
    const struct kvm_irq_level line = {.irq = gsi, .level = level};

    return rig_call(rig, KVM_IRQ_LINE, &line);
}

/* ---- another thread, that acts when the vCPU has come to its sleep ---- */

struct actor {
    struct rig *rig;
    void (*act)(struct actor *actor);
    pthread_t target;
    pthread_t thread;
};

static inline void wait_asleep(struct gm_soft_vcpu *vcpu)
{
    while (!atomic_load(&vcpu->mmu.base.is_asleep)) {
        sched_yield();
    }
}

static inline void *act_when_asleep(void *opaque)
{
    struct actor *actor = opaque;

    wait_asleep(actor->rig->vcpu);
    actor->act(actor);
    return NULL;
}

static inline void actor_start(struct actor *actor, struct rig *rig, void (*act)(struct actor *))
{
    *actor = (struct actor){.rig = rig, .act = act, .target = pthread_self()};
    assert_int_equal(pthread_create(&actor->thread, NULL, act_when_asleep, actor), 0);
}

static inline void actor_join(struct actor *actor)
{
    assert_int_equal(pthread_join(actor->thread, NULL), 0);
}

static inline void kick(struct actor *actor)
{
    gm_mmu_kick(actor->rig->mmu);
}

#endif
