/*
 * examples/owned.hpp - guestmem's handles as C++ values: freed by themselves, and errors as exceptions. For any program.
 *
 *     auto vm = owned::made<gm_vm>(gm_vm_open, &options);
 *     owned::done(gm_region_set_addr, region.get(), 0x1000);
 */
#ifndef EXAMPLES_OWNED_HPP
#define EXAMPLES_OWNED_HPP

#include <guestmem/guestmem.h>

#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>

namespace owned {

struct Error : std::runtime_error {
    Error(int rc, const gm_diag &diag)
        : std::runtime_error(std::string(std::strerror(-rc)) + ": " + gm_diag_id_name(diag.id) +
                             " " + diag.text),
          rc(rc), id(diag.id)
    {
    }
    int rc; // the negative errno
    int id; // enum gm_diag_id
};

/* What a call without a diag has returned. */
inline void check(int rc, const gm_diag &diag = {})
{
    if (rc != 0) {
        throw Error(rc, diag);
    }
}

/* call(arguments..., &diag) */
template <typename Call, typename... Arguments> void done(Call call, Arguments... arguments)
{
    gm_diag diag = {};

    check(call(arguments..., &diag), diag);
}

struct Free {
    void operator()(gm_region *region) const { gm_region_put(region); }
    void operator()(gm_ram *ram) const { gm_ram_put(ram); }
    void operator()(gm_vcpu *vcpu) const { gm_vcpu_free(vcpu); }
    void operator()(gm_vm *vm) const { (void)!gm_vm_close(vm, nullptr); }
};
using Region = std::unique_ptr<gm_region, Free>;
using Ram = std::unique_ptr<gm_ram, Free>;
using Vcpu = std::unique_ptr<gm_vcpu, Free>;
using Vm = std::unique_ptr<gm_vm, Free>;

/* The handle of make(arguments..., &handle, &diag). */
template <typename Handle, typename Make, typename... Arguments>
std::unique_ptr<Handle, Free> made(Make make, Arguments... arguments)
{
    Handle *handle = nullptr;

    done(make, arguments..., &handle);
    return std::unique_ptr<Handle, Free>(handle);
}

} // namespace owned

#endif
