/*
 * tests/kvm/guest.h - a machine small enough to write its programs by hand: real mode, every segment
 * at 0 or where a program puts it, 32 KiB of RAM at 0, code at 0x1000.
 *
 *   0x0000 - 0x7fff   RAM
 *   0x8000 - 0x8fff   MMIO: a recorder
 *   0xa000            nothing
 *   ports 0x10 - 0x1f a recorder
 */
#ifndef TESTS_KVM_GUEST_H
#define TESTS_KVM_GUEST_H

#include <guestmem/guestmem.h>

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include <linux/kvm.h>

#define GUEST_RAM_BYTES 0x8000u
#define GUEST_CODE 0x1000u
#define GUEST_MMIO 0x8000u
#define GUEST_HOLE 0xa000u
#define GUEST_PORT 0x10u
#define GUEST_COUNTER 0x7000u /* where spinning programs count */

/* What a recorder saw, and what it answers: each read the next number. */
struct recorder {
    unsigned count;
    struct record {
        bool is_write;
        unsigned size_bytes;
        uint64_t offset;
        uint64_t value;
    } items[64];
    uint64_t next_value; /* of reads */
    uint64_t step;
    void (*on_access)(void *opaque, const struct record *record); /* NULL: nothing more */
    void *opaque;
};

extern const struct gm_io_ops recorder_ops;

struct guest {
    struct gm_vm *vm;
    struct gm_vcpu *vcpu;
    struct gm_ram *ram_block;
    struct gm_region *ram;
    struct gm_region *mmio;
    struct gm_region *ports;
    struct recorder mmio_seen;
    struct recorder ports_seen;
    uint8_t *code;    /* where the next bytes go */
    pthread_t thread; /* of guest_start() */
    atomic_bool is_stopping;
};

/* What machines are made on. */
extern enum gm_accel guest_accel;

/* Can they be? Else tests skip() themselves: GUEST_NEEDS_KVM() first; GUEST_NEEDS_DEV_KVM() where they are about descriptors
 * and signals of /dev/kvm. */
bool guest_accel_opens(void);
#define GUEST_NEEDS_KVM()                                                                          \
    do {                                                                                           \
        if (!guest_accel_opens()) {                                                                \
            skip();                                                                                \
        }                                                                                          \
    } while (0)
#define GUEST_NEEDS_DEV_KVM()                                                                      \
    do {                                                                                           \
        if (guest_accel != GM_ACCEL_KVM || !guest_accel_opens()) {                                 \
            skip();                                                                                \
        }                                                                                          \
    } while (0)

/* The exit code of a program whose tests need /dev/kvm: 77 if they passed by being skipped. */
int guest_exit_code(int failed_count);

/* Run tests on /dev/kvm, and again on the software KVM. The program's exit code. */
#define GUEST_RUN_ON_BOTH(tests)                                                                   \
    (cmocka_run_group_tests_name("on /dev/kvm", tests, NULL, NULL) != 0 ||                         \
     (guest_accel = GM_ACCEL_SOFT,                                                                 \
      cmocka_run_group_tests_name("on the software KVM", tests, NULL, NULL) != 0))

/* Make the machine in @vm (closed by guest_fini), or in one that is opened with @options. */
void guest_init(struct guest *guest, const struct gm_vm_options *options);
void guest_init_in(struct guest *guest, struct gm_vm *vm);
void guest_fini(struct guest *guest);

/* Put the vCPU, or one by its descriptor, into real mode at GUEST_CODE. */
void guest_reset(struct gm_vcpu *vcpu);
void guest_reset_fd(int vcpu_fd);

/* Begin a new program, append to it. */
void guest_program(struct guest *guest);
void guest_emit(struct guest *guest, const void *bytes, size_t count);
#define EMIT(guest, ...)                                                                           \
    guest_emit(guest, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))
#define LO(word) ((uint8_t)((word)&0xffu))
#define HI(word) ((uint8_t)((word) >> 8))

/* Instructions. */
#define EMIT_MOV_AL(guest, byte) EMIT(guest, 0xb0, byte)
#define EMIT_MOV_DX(guest, word) EMIT(guest, 0xba, LO(word), HI(word))
#define EMIT_OUT_AL(guest) EMIT(guest, 0xee)
#define EMIT_IN_AL(guest) EMIT(guest, 0xec)
#define EMIT_STORE_AL(guest, word) EMIT(guest, 0xa2, LO(word), HI(word))
#define EMIT_LOAD_AL(guest, word) EMIT(guest, 0xa0, LO(word), HI(word))
#define EMIT_HLT(guest) EMIT(guest, 0xf4)
/* inc word [GUEST_COUNTER], over and over (6 bytes). */
#define EMIT_SPIN(guest) EMIT(guest, 0xff, 0x06, LO(GUEST_COUNTER), HI(GUEST_COUNTER), 0xeb, 0xfa)
/* mov byte [page * 4096], 0x5a for any page below 1 MiB, through ES. */
void guest_emit_dirty_page(struct guest *guest, unsigned page);

/* Run to HLT, and fail the test at any other end. */
void guest_run_to_hlt(struct guest *guest);

/* Wait until the spinning guest has counted on from what it is now. */
void guest_wait_spinning(struct guest *guest);

/* Run it on a thread of its own, whatever signals come, until guest_stop(): gm_vcpu_run() gives nothing but -EINTR. */
void guest_start(struct guest *guest);
void guest_stop(struct guest *guest);

/* A RAM region of its own block, attached at @gpa of the VM's memory. The caller puts the region. */
struct gm_region *guest_add_ram(struct guest *guest, const char *name, uint64_t gpa,
                                uint64_t size_bytes);

/* A RAM region's bytes. */
uint8_t *guest_bytes(const struct gm_region *region);

/* One edit each, which must succeed. */
void guest_set_enabled(struct gm_region *region, bool enabled);
void guest_set_readonly(struct gm_vm *vm, struct gm_region *region, bool readonly);
void guest_set_log(struct gm_vm *vm, struct gm_region *region, unsigned client, bool on);

/* The slots of a VM, as text: "GPA+SIZE:FLAGS:REGION+OFFSET " for each, ascending by address. */
#define SLOTS_TEXT_BYTES 1024
void guest_slots_text(struct gm_vm *vm, char text[static SLOTS_TEXT_BYTES]);

#endif
