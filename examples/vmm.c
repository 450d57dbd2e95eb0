/* examples/vmm.c - a whole VMM in 100 lines, on /dev/kvm or, where that does not open, the software KVM. */
#include <guestmem/guestmem.h>

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The guest stores R and prints it by a port, asks a card by MMIO, moves the card's BAR, asks again. */
static const uint8_t BOOT[] = {
    0xba, 0xf8, 0x03, 0x31, 0xc0, 0x8e, 0xd8,             /* mov dx, 0x3f8; mov ds, 0 */
    0xc6, 0x06, 0x00, 0x10, 'R',                          /* mov byte [0x1000], 'R' */
    0xa0, 0x00, 0x10, 0xee,                               /* mov al, [0x1000]; out dx, al */
    0xb8, 0x00, 0x20, 0x8e, 0xd8, 0xa0, 0x00, 0x00, 0xee, /* the same of 0x20000: M */
    0xb8, 0x00, 0x30, 0xa3, 0x00, 0x00, 0x8e, 0xd8,       /* mov ax, 0x3000; mov [0], ax: moves */
    0xa0, 0x00, 0x00, 0xee, 0xb0, '\n', 0xee, 0xf4,       /* M from 0x30000; a newline; hlt */
};
static const uint8_t RESET[] = {0xe9, 0x0d, 0x00}; /* at 0xfff0, where x86 begins: jmp 0 */
static struct gm_diag diag;                        /* why a call has failed */

static void must(int rc)
{
    if (rc != 0) {
        fprintf(stderr, "%s: %s %s\n", strerror(-rc), gm_diag_id_name(diag.id), diag.text);
        exit(1);
    }
}

static enum gm_access console_write(void *opaque, uint64_t offset, unsigned size_bytes,
                                    uint64_t value, struct gm_attrs attrs)
{
    (void)opaque, (void)offset, (void)size_bytes, (void)attrs;
    return putchar((int)value) != EOF ? GM_ACCESS_OK : GM_ACCESS_DEVICE;
}

static enum gm_access card_read(void *opaque, uint64_t offset, unsigned size_bytes, uint64_t *value,
                                struct gm_attrs attrs)
{
    (void)opaque, (void)offset, (void)size_bytes, (void)attrs;
    *value = 'M';
    return GM_ACCESS_OK;
}

static enum gm_access card_write(void *bar, uint64_t offset, unsigned size_bytes, uint64_t value,
                                 struct gm_attrs attrs)
{
    (void)offset, (void)size_bytes, (void)attrs;
    must(gm_region_set_addr(*(struct gm_region **)bar, value << 4, &diag));
    return GM_ACCESS_OK;
}

static const struct gm_io_ops CONSOLE = {.size = sizeof(CONSOLE), .write = console_write};
static const struct gm_io_ops CARD = {.size = sizeof(CARD), .read = card_read, .write = card_write};
enum { RAM, ROM, BAR, PORT, PART_COUNT };
static const struct gm_region_options PARTS[PART_COUNT] = {
    {.kind = GM_REGION_RAM, .addr = 0, .size_bytes = 0x10000},
    {.kind = GM_REGION_ROM, .addr = 0xffff0000, .size_bytes = 0x10000, .ram_offset = 0x10000},
    {.kind = GM_REGION_MMIO, .addr = 0x20000, .size_bytes = 0x1000, .io = &CARD},
    {.kind = GM_REGION_MMIO, .addr = 0x3f8, .size_bytes = 1, .io = &CONSOLE},
};

int main(void)
{
    const struct gm_vm_options options = {.size = sizeof(options), .accel = GM_ACCEL_AUTO};
    struct gm_region *regions[PART_COUNT];
    struct gm_harvest *harvest;
    struct gm_ram *block; /* 64 KiB of RAM, then 64 KiB of ROM */
    struct gm_vcpu *vcpu;
    struct gm_vm *vm;
    uint64_t first, last;

    must(gm_vm_open(&options, &vm, &diag));
    must(gm_ram_new_anon(0x20000, NULL, &block, &diag));
    memcpy((uint8_t *)gm_ram_hva(block) + 0x10000, BOOT, sizeof(BOOT));
    memcpy((uint8_t *)gm_ram_hva(block) + 0x1fff0, RESET, sizeof(RESET));
    for (int i = 0; i < PART_COUNT; i++) {
        struct gm_region *parent = i < PORT ? gm_vm_memory_root(vm) : gm_vm_ports_root(vm);
        struct gm_region_options part = PARTS[i];
        part.size = sizeof(part);
        part.ram = i <= ROM ? block : NULL;
        part.opaque = &regions[i]; /* what callbacks are given */
        must(gm_region_new_child(parent, &part, &regions[i], &diag));
        gm_region_put(regions[i]); /* its parent keeps it */
    }
    must(gm_region_set_log(regions[RAM], 0, true, &diag));
    must(gm_vcpu_new(vm, 0, &vcpu, &diag));
    must(gm_vcpu_run(vcpu)); /* the regions answer its MMIO and ports */
    must(gm_vcpu_kvm_run(vcpu)->exit_reason == KVM_EXIT_HLT ? 0 : -EIO);

    must(gm_region_log_sync(regions[RAM], 0, 0x10000));
    must(gm_harvest_begin(block, 0, 0, 0x10000, &harvest));
    while (gm_harvest_next(harvest, &first, &last)) {
        printf("written: pages %d to %d\n", (int)first, (int)last);
    }
    gm_harvest_commit(harvest);
    must(gm_vm_close(vm, &diag)); /* with its regions and vCPUs */
    gm_ram_put(block);
    return 0;
}
