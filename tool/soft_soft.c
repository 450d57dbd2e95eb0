/* soft_soft.c - a script's machine on guestmem's software KVM, by its public headers. */
#include "soft_machine.h"
#include "tool.h"

#include <guestmem/soft_ioctl.h>

#include <stdio.h>
#include <stdlib.h>

struct soft {
    struct gm_soft *vm;        /* NULL: there is none */
    struct gm_soft_vcpu *vcpu; /* NULL: there is none */
};

static int soft_open(struct script_machine *machine, struct gm_diag *diag)
{
    (void)diag;
    machine->opaque = tool_alloc(sizeof(struct soft));
    return 0;
}

static void soft_close(struct script_machine *machine)
{
    free(machine->opaque);
}

static void soft_destroy(struct script_machine *machine)
{
    struct soft *soft = machine->opaque;

    gm_soft_vcpu_free(soft->vcpu);
    soft->vcpu = NULL;
    machine->run = NULL;
    if (gm_soft_close(soft->vm) != 0) {
        tool_error("soft: the VM does not close");
        exit(TOOL_FAILED);
    }
    soft->vm = NULL;
}

static int soft_create(struct script_machine *machine, struct gm_diag *diag)
{
    struct soft *soft = machine->opaque;
    int error = gm_soft_open(NULL, &soft->vm, diag);

    if (error != 0) {
        soft->vm = NULL;
        return error;
    }
    error = gm_soft_vcpu_new(soft->vm, 0, &soft->vcpu);
    if (error != 0) {
        soft->vcpu = NULL;
        snprintf(diag->text, sizeof(diag->text), "a vCPU cannot be made");
        return error;
    }
    machine->run = gm_soft_vcpu_run_page(soft->vcpu);
    return 0;
}

static long soft_system_ioctl(struct script_machine *machine, unsigned long request, void *argument)
{
    (void)machine;
    return gm_soft_system_ioctl(request, (uintptr_t)argument);
}

static long soft_vm_ioctl(struct script_machine *machine, unsigned long request, void *argument)
{
    const struct soft *soft = machine->opaque;

    return gm_soft_vm_ioctl(soft->vm, request, (uintptr_t)argument);
}

static long soft_vcpu_ioctl(struct script_machine *machine, unsigned long request, void *argument)
{
    const struct soft *soft = machine->opaque;

    return gm_soft_vcpu_ioctl(soft->vcpu, request, (uintptr_t)argument);
}

static void soft_invalidate_begin(struct script_machine *machine, gm_hva_t hva, uint64_t size_bytes)
{
    const struct soft *soft = machine->opaque;

    gm_soft_invalidate_begin(soft->vm, hva, size_bytes);
}

static void soft_invalidate_end(struct script_machine *machine, gm_hva_t hva, uint64_t size_bytes)
{
    const struct soft *soft = machine->opaque;

    gm_soft_invalidate_end(soft->vm, hva, size_bytes);
}

const struct script_machine_ops script_soft_ops = {
    .name = "soft",
    .open = soft_open,
    .close = soft_close,
    .create = soft_create,
    .destroy = soft_destroy,
    .system_ioctl = soft_system_ioctl,
    .vm_ioctl = soft_vm_ioctl,
    .vcpu_ioctl = soft_vcpu_ioctl,
    .invalidate_begin = soft_invalidate_begin,
    .invalidate_end = soft_invalidate_end,
};
