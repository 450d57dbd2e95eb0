/* vm/accel_soft.c - a map on the software KVM. */
#include "base/check.h"
#include "base/diag.h"
#include "kcore/dirtylog.h"
#include "soft/soft.h"
#include "vm/vm.h"

#include <errno.h>

static int accel_begin(struct gm_vm *vm, const struct gm_vm_options *options, struct gm_diag *diag)
{
    const struct gm_soft_options defaults = {
        .size = sizeof(defaults),
        .allocator = &vm->allocator,
    };

    return gm_soft_open(options->soft != NULL ? options->soft : &defaults, &vm->soft, diag);
}

static int accel_attach(struct gm_vm *vm, const struct gm_vm_options *options, struct gm_diag *diag)
{
    int rc = gm_soft_attach(vm->soft, vm->memory, options->max_slots, &vm->slots, diag);

    if (rc == 0 && options->no_manual_protect) {
        rc = kcore_set_manual_protect(&vm->soft->core, 0);
        GM_ASSERT(rc == 0);
    }
    return rc;
}

static int accel_check_idle(struct gm_vm *vm, struct gm_diag *diag)
{
    return soft_has_vcpus(vm->soft)
               ? diag_set(diag, -EBUSY, "a vCPU of gm_soft_vcpu_new() is left: free it first")
               : 0;
}

static void accel_end(struct gm_vm *vm)
{
    int rc = gm_soft_close(vm->soft);

    GM_ASSERT(rc == 0);
}

const struct vm_accel vm_accel_soft = {
    .begin = accel_begin,
    .attach = accel_attach,
    .check_idle = accel_check_idle,
    .end = accel_end,
};
