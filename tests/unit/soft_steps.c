/* unit/soft_steps.c - running scripts of ioctls on the software KVM and on /dev/kvm. */
#include "soft_steps.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define VCPUS_MAX 4

/* A VM of either kind. */
struct machine {
    bool is_real;
    uint8_t *memory;
    /* software */
    struct gm_soft *soft;
    struct gm_soft_vcpu *vcpus[VCPUS_MAX];
    /* real */
    int system_fd;
    int vm_fd;
    int vcpu_fds[VCPUS_MAX];
    unsigned vcpu_count;
};

static bool machine_init(struct machine *machine, bool is_real)
{
    *machine = (struct machine){.is_real = is_real};
    if (is_real) {
        machine->system_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
        if (machine->system_fd == -1) {
            return false;
        }
        machine->vm_fd = ioctl(machine->system_fd, KVM_CREATE_VM, 0);
        assert_true(machine->vm_fd >= 0);
    } else {
        assert_int_equal(gm_soft_open(NULL, &machine->soft, NULL), 0);
    }
    machine->memory =
        mmap(NULL, STEPS_MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(machine->memory != MAP_FAILED);
    return true;
}

static void machine_fini(struct machine *machine)
{
    for (unsigned i = 0; i < machine->vcpu_count; i++) {
        if (machine->is_real) {
            close(machine->vcpu_fds[i]);
        } else {
            gm_soft_vcpu_free(machine->vcpus[i]);
        }
    }
    if (machine->is_real) {
        close(machine->vm_fd);
        close(machine->system_fd);
    } else {
        assert_int_equal(gm_soft_close(machine->soft), 0);
    }
    munmap(machine->memory, STEPS_MEMORY_BYTES);
}

static long new_vcpu(struct machine *machine, unsigned id)
{
    unsigned next = machine->vcpu_count;
    long rc;

    assert_true(next < VCPUS_MAX);
    if (machine->is_real) {
        machine->vcpu_fds[next] = ioctl(machine->vm_fd, KVM_CREATE_VCPU, (unsigned long)id);
        rc = machine->vcpu_fds[next] >= 0 ? 0 : -errno;
    } else {
        rc = gm_soft_vcpu_new(machine->soft, id, &machine->vcpus[next]);
    }
    machine->vcpu_count += rc == 0;
    return rc;
}

static long call_real(struct machine *machine, const struct step *step, unsigned long argument)
{
    int fd = step->object == STEP_ON_SYSTEM ? machine->system_fd
             : step->object == STEP_ON_VM   ? machine->vm_fd
                                            : machine->vcpu_fds[machine->vcpu_count - 1];
    int rc = ioctl(fd, step->request, argument);

    return rc == -1 ? -errno : rc;
}

static long call_soft(struct machine *machine, const struct step *step, unsigned long argument)
{
    switch (step->object) {
    case STEP_ON_SYSTEM:
        return gm_soft_system_ioctl(step->request, argument);
    case STEP_ON_VM:
        return gm_soft_vm_ioctl(machine->soft, step->request, argument);
    default:
        return gm_soft_vcpu_ioctl(machine->vcpus[machine->vcpu_count - 1], step->request, argument);
    }
}

static long call(struct machine *machine, const struct step *step, const void *argument)
{
    return machine->is_real ? call_real(machine, step, (unsigned long)argument)
                            : call_soft(machine, step, (unsigned long)argument);
}

static long run_step(struct machine *machine, const struct step *step)
{
    uint64_t bitmap[STEPS_BITMAP_WORDS] = {0};
    struct kvm_userspace_memory_region region = step->region;
    bool is_bad = (step->flags & STEP_BAD_BITMAP) != 0;
    void *place = is_bad ? (void *)STEPS_KERNEL_HVA : bitmap;
    struct kvm_dirty_log log = {.slot = step->region.slot, .dirty_bitmap = place};
    struct kvm_clear_dirty_log clear = step->clear;
    long rc;

    if (step->object == STEP_NEW_VCPU) {
        return new_vcpu(machine, (unsigned)step->number);
    }
    switch (step->kind) {
    case STEP_REGION:
        region.userspace_addr += (uintptr_t)machine->memory;
        return call(machine, step, &region);
    case STEP_REGION_ABSOLUTE:
        return call(machine, step, &region);
    case STEP_LOG:
        rc = call(machine, step, &log);
        if (rc == 0 && !is_bad && step->number != STEP_ANY) {
            assert_int_equal(bitmap[0], step->number);
        }
        return rc;
    case STEP_CLEAR:
        clear.dirty_bitmap = place;
        return call(machine, step, &clear);
    case STEP_CAP:
        return call(machine, step, &step->cap);
    case STEP_ADDRESS:
        return call(machine, step, &step->number);
    default:
        // NOLINTNEXTLINE(performance-no-int-to-ptr): an ioctl's argument
        return call(machine, step, (void *)(uintptr_t)step->number);
    }
}

static const char *name_of(long rc)
{
    const char *name = rc < 0 ? strerrorname_np((int)-rc) : "a result";

    return name != NULL ? name : "no errno";
}

static void run_script(const struct script *script, bool is_real)
{
    struct machine machine;

    assert_true(machine_init(&machine, is_real));
    for (unsigned i = 0; i < STEPS_MAX && script->steps[i].object != 0; i++) {
        const struct step *step = &script->steps[i];
        long rc;

        if (is_real && (step->flags & STEP_SOFT_ONLY) != 0) {
            continue;
        }
        rc = run_step(&machine, step);
        if (rc != step->expected) {
            fail_msg("%s: %s, step %u: %ld (%s), not %ld (%s)", is_real ? "/dev/kvm" : "software",
                     script->name, i, rc, name_of(rc), step->expected, name_of(step->expected));
        }
    }
    machine_fini(&machine);
}

void scripts_run_soft(const struct script *scripts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        run_script(&scripts[i], false);
    }
}

bool scripts_run_real(const struct script *scripts, size_t count)
{
    struct machine machine;

    if (!machine_init(&machine, true)) {
        return false;
    }
    machine_fini(&machine);
    for (size_t i = 0; i < count; i++) {
        run_script(&scripts[i], true);
    }
    return true;
}
