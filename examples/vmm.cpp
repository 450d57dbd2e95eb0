// examples/vmm.cpp - the VMM of examples/vmm.c in C++: handles free themselves, and errors are exceptions, by owned.hpp.
#include "owned.hpp"

#include <cerrno>
#include <cstdio>
#include <linux/kvm.h>

namespace {

const unsigned char boot[] = {
    0xba, 0xf8, 0x03, 0x31, 0xc0, 0x8e, 0xd8,             // mov dx, 0x3f8; mov ds, 0
    0xc6, 0x06, 0x00, 0x10, 'R',                          // mov byte [0x1000], 'R'
    0xa0, 0x00, 0x10, 0xee,                               // mov al, [0x1000]; out dx, al
    0xb8, 0x00, 0x20, 0x8e, 0xd8, 0xa0, 0x00, 0x00, 0xee, // the same of 0x20000: M
    0xb8, 0x00, 0x30, 0xa3, 0x00, 0x00, 0x8e, 0xd8,       // mov ax, 0x3000; mov [0], ax: moves
    0xa0, 0x00, 0x00, 0xee, 0xb0, '\n', 0xee, 0xf4,       // M from 0x30000; a newline; hlt
};
const unsigned char reset[] = {0xe9, 0x0d, 0x00}; // at 0xfff0, where x86 begins: jmp 0

gm_access console_write(void *, uint64_t, unsigned, uint64_t value, gm_attrs) noexcept
{
    return std::putchar(static_cast<int>(value)) != EOF ? GM_ACCESS_OK : GM_ACCESS_DEVICE;
}

gm_access card_read(void *, uint64_t, unsigned, uint64_t *value, gm_attrs) noexcept
{
    *value = 'M';
    return GM_ACCESS_OK;
}

gm_access card_write(void *bar, uint64_t, unsigned, uint64_t value, gm_attrs) noexcept
{
    gm_region *region = static_cast<owned::Region *>(bar)->get();
    return gm_region_set_addr(region, value << 4, nullptr) == 0 ? GM_ACCESS_OK : GM_ACCESS_DEVICE;
}

gm_region_options part(enum gm_region_kind kind, uint64_t addr, uint64_t size_bytes)
{
    gm_region_options options = {};
    options.size = sizeof(options);
    options.kind = kind;
    options.addr = addr;
    options.size_bytes = size_bytes;
    return options;
}

} // namespace

int main()
try {
    gm_io_ops console = {}, card = {};
    gm_vm_options options = {};
    console.size = card.size = sizeof(gm_io_ops);
    console.write = console_write, card.read = card_read, card.write = card_write;
    options.size = sizeof(options);
    options.accel = GM_ACCEL_AUTO;
    auto vm = owned::made<gm_vm>(gm_vm_open, &options);
    gm_region *memory = gm_vm_memory_root(vm.get());
    auto block = owned::made<gm_ram>(gm_ram_new_anon, 0x20000, nullptr); // RAM, then ROM
    auto *rom_bytes = static_cast<unsigned char *>(gm_ram_hva(block.get())) + 0x10000;
    std::memcpy(rom_bytes, boot, sizeof(boot));
    std::memcpy(rom_bytes + 0xfff0, reset, sizeof(reset));

    owned::Region bar; // which the card moves
    auto low = part(GM_REGION_RAM, 0, 0x10000), high = part(GM_REGION_ROM, 0xffff0000, 0x10000);
    auto mmio = part(GM_REGION_MMIO, 0x20000, 0x1000), pio = part(GM_REGION_MMIO, 0x3f8, 1);
    low.ram = high.ram = block.get(), high.ram_offset = 0x10000;
    mmio.io = &card, mmio.opaque = &bar, pio.io = &console;
    auto ram = owned::made<gm_region>(gm_region_new_child, memory, &low);
    auto rom = owned::made<gm_region>(gm_region_new_child, memory, &high);
    auto port = owned::made<gm_region>(gm_region_new_child, gm_vm_ports_root(vm.get()), &pio);
    bar = owned::made<gm_region>(gm_region_new_child, memory, &mmio);
    owned::done(gm_region_set_log, ram.get(), 0, true);

    auto vcpu = owned::made<gm_vcpu>(gm_vcpu_new, vm.get(), 0);
    owned::check(gm_vcpu_run(vcpu.get())); // the regions answer its MMIO and ports
    owned::check(gm_vcpu_kvm_run(vcpu.get())->exit_reason == KVM_EXIT_HLT ? 0 : -EIO);

    gm_harvest *harvest;
    owned::check(gm_region_log_sync(ram.get(), 0, 0x10000));
    owned::check(gm_harvest_begin(block.get(), 0, 0, 0x10000, &harvest));
    for (uint64_t first, last; gm_harvest_next(harvest, &first, &last);) {
        std::printf("written: pages %d to %d\n", int(first), int(last));
    }
    gm_harvest_commit(harvest);
    return 0;
} catch (const owned::Error &error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
