/*
 * pc/piix4.c - PIIX4: the ISA bridge (00:01.0), which firmware looks for and which does nothing
 * here, and power management (00:01.3): the PM timer, soft-off and the SMI command port.
 *
 * There is no system management mode on this machine. A command on the SMI command port is answered
 * as a handler that has run would do it: status 0. Firmware that opens the SMRAM window, leaves its
 * handler there and closes the window again therefore does all of this, and goes on.
 * Source: Intel 82371AB (PIIX4) datasheet, functions 0 and 3; ACPI specification, PM1 control and
 * PM timer registers.
 */
#include "pc/piix4.h"

#include "pc/clock.h"

/* Configuration space of function 3. */
#define PM_BASE 0x40
#define PM_BASE_IS_PORT 0x01u
#define PM_BASE_MASK 0xffc0u
#define PM_DEVACTB 0x58
#define PM_MISC 0x80
#define PM_MISC_ENABLE 0x01u
#define PM_SMBUS_BASE 0x90
#define PM_SMBUS_HOST 0xd2

/* The PM ports. */
#define PM_PORT_COUNT 64
#define PM1_ENABLE 0x02
#define PM1_CONTROL 0x04
#define PM1_CONTROL_SCI 0x0001u
#define PM1_CONTROL_SLEEP_TYPE 0x1c00u
#define PM1_CONTROL_SLEEP_ENABLE 0x2000u
#define PM_TIMER 0x08
#define PM_TIMER_HZ 3579545u
#define PM_TIMER_MASK 0xffffffu
#define PM_GLOBAL_CONTROL 0x28

#define SMI_PORTS 0xb2
#define SMI_ACPI_ENABLE 0xf1
#define SMI_ACPI_DISABLE 0xf0

static uint32_t timer_now(const struct piix4 *piix)
{
    uint64_t elapsed_ns = clock_now_ns() - piix->start_ns;
    uint64_t seconds = elapsed_ns / CLOCK_NS_PER_SECOND;
    uint64_t rest_ns = elapsed_ns % CLOCK_NS_PER_SECOND;

    /* In two parts, so that the product stays within 64 bits however long the machine runs. */
    return (uint32_t)(seconds * PM_TIMER_HZ + rest_ns * PM_TIMER_HZ / CLOCK_NS_PER_SECOND) &
           PM_TIMER_MASK;
}

/* The 32-bit register that holds a port, as a number. */
static uint32_t pm_register(const struct piix4 *piix, uint64_t offset)
{
    switch (offset & ~(uint64_t)3) {
    case PM1_ENABLE & ~3:
        return (uint32_t)piix->pm1_enable << 16; /* the status below it never has a bit set */
    case PM1_CONTROL:
        return piix->pm1_control;
    case PM_TIMER:
        return timer_now(piix);
    case PM_GLOBAL_CONTROL:
        return piix->global_control;
    default:
        return 0;
    }
}

static enum gm_access pm_read(void *opaque, uint64_t offset, unsigned size_bytes, uint64_t *value,
                              struct gm_attrs attrs)
{
    (void)size_bytes;
    (void)attrs;
    *value = pm_register(opaque, offset) >> (8 * (offset & 3));
    return GM_ACCESS_OK;
}

static void control_write(struct piix4 *piix, uint16_t value)
{
    /* Type 0 with the enable bit is S5, soft-off; the other sleep states are not made here. */
    if ((value & PM1_CONTROL_SLEEP_ENABLE) != 0 && (value & PM1_CONTROL_SLEEP_TYPE) == 0) {
        board_end(piix->board, PC_POWER_OFF, 0);
    }
    piix->pm1_control = value & (uint16_t)~PM1_CONTROL_SLEEP_ENABLE;
}

static enum gm_access pm_write(void *opaque, uint64_t offset, unsigned size_bytes, uint64_t value,
                               struct gm_attrs attrs)
{
    struct piix4 *piix = opaque;

    (void)attrs;
    if (offset == PM1_CONTROL && size_bytes >= 2) {
        control_write(piix, (uint16_t)value);
    } else if (offset == PM1_ENABLE && size_bytes == 2) {
        piix->pm1_enable = (uint16_t)value;
    } else if (offset == 0 && size_bytes == 4) {
        piix->pm1_enable = (uint16_t)(value >> 16);
    } else if (offset == PM_GLOBAL_CONTROL && size_bytes == 4) {
        piix->global_control = (uint32_t)value;
    }
    return GM_ACCESS_OK;
}

static const struct gm_io_ops pm_io = {
    .size = sizeof(pm_io),
    .read = pm_read,
    .write = pm_write,
    .order = GM_ORDER_LITTLE,
    .valid = {.min_bytes = 1, .max_bytes = 4},
    .implemented = {.min_bytes = 1, .max_bytes = 4},
};

static uint8_t smi_read(void *opaque, unsigned offset)
{
    const struct piix4 *piix = opaque;

    return offset == 0 ? piix->command : piix->status;
}

static void smi_write(void *opaque, unsigned offset, uint8_t byte)
{
    struct piix4 *piix = opaque;

    if (offset != 0) {
        piix->status = byte;
        return;
    }
    piix->command = byte;
    piix->status = 0;
    if (byte == SMI_ACPI_ENABLE) {
        piix->pm1_control |= PM1_CONTROL_SCI;
    } else if (byte == SMI_ACPI_DISABLE) {
        piix->pm1_control &= (uint16_t)~PM1_CONTROL_SCI;
    }
}

/* The PM ports show where the guest has put them, once it has enabled them. */
static void pm_written(void *opaque)
{
    struct piix4 *piix = opaque;
    uint16_t wanted = (uint16_t)(pci_config_get32(&piix->pm, PM_BASE) & PM_BASE_MASK);
    struct gm_txn *txn = NULL;
    int err;

    if ((piix->pm.config[PM_MISC] & PM_MISC_ENABLE) == 0) {
        wanted = 0;
    }
    if (wanted == piix->pm_shown_at) {
        return;
    }
    err = gm_txn_begin(piix->board->map, &txn);
    if (err == 0 && wanted != 0) {
        err = gm_txn_set_addr(txn, piix->pm_ports, wanted);
    }
    if (err == 0) {
        err = gm_txn_set_enabled(txn, piix->pm_ports, wanted != 0);
    }
    piix->pm_shown_at = wanted;
    board_commit(piix->board, txn, err);
}

static int pm_ports_init(struct piix4 *piix)
{
    const struct gm_region_options options = {
        .size = sizeof(options),
        .kind = GM_REGION_MMIO,
        .name = "piix4-pm",
        .size_bytes = PM_PORT_COUNT,
        .disabled = true,
        .io = &pm_io,
        .opaque = piix,
    };
    int err = board_add_region(piix->board, piix->board->ports, &options, &piix->pm_ports);

    piix->smi = (struct byte_ports){
        .name = "piix4-smi",
        .port = SMI_PORTS,
        .count = 2,
        .read = smi_read,
        .write = smi_write,
        .opaque = piix,
    };
    return err != 0 ? err : byte_ports_add(piix->board, &piix->smi);
}

static void config_init(struct piix4 *piix)
{
    static const struct pci_identity isa = {
        .vendor = 0x8086,
        .device = 0x7000, /* PIIX3's, which SeaBIOS expects together with an i440fx */
        .class_code = 0x060100,
        .header_type = 0x80, /* more functions follow */
    };
    static const struct pci_identity pm = {
        .vendor = 0x8086,
        .device = 0x7113,
        .class_code = 0x068000,
        .revision = 3,
    };
    static const uint8_t pm_registers[][2] = {
        /* offset, bits that the guest may change */
        {PM_BASE, 0xc0},        {PM_BASE + 1, 0xff},    {PM_DEVACTB, 0xff},
        {PM_DEVACTB + 1, 0xff}, {PM_DEVACTB + 2, 0xff}, {PM_DEVACTB + 3, 0xff},
        {PM_MISC, 0xff},        {PM_SMBUS_BASE, 0xf0},  {PM_SMBUS_BASE + 1, 0xff},
        {PM_SMBUS_HOST, 0xff},
    };
    unsigned i;

    pci_device_identify(&piix->isa, &isa);
    for (i = 0x60; i < 0x64; i++) {
        piix->isa.writable[i] = 0xff; /* where PCI interrupts go */
    }
    pci_device_identify(&piix->pm, &pm);
    piix->pm.config[0x3d] = 1; /* its interrupt pin: A */
    piix->pm.config[PM_BASE] = PM_BASE_IS_PORT;
    piix->pm.config[PM_SMBUS_BASE] = PM_BASE_IS_PORT;
    for (i = 0; i < sizeof(pm_registers) / sizeof(pm_registers[0]); i++) {
        piix->pm.writable[pm_registers[i][0]] = pm_registers[i][1];
    }
    piix->pm.writable[PCI_COMMAND] = PCI_COMMAND_PORTS;
    piix->pm.written = pm_written;
    piix->pm.opaque = piix;
}

int piix4_init(struct piix4 *piix, struct pci_bus *bus)
{
    int err;

    piix->board = bus->board;
    piix->start_ns = clock_now_ns();
    config_init(piix);
    err = pm_ports_init(piix);
    if (err == 0) {
        err = pci_bus_plug(bus, PCI_DEVFN(1, 0), &piix->isa);
    }
    return err != 0 ? err : pci_bus_plug(bus, PCI_DEVFN(1, 3), &piix->pm);
}
