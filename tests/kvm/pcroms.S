/*
 * tests/kvm/pcroms.S - guests for the small PC of `guestmem run`: real-mode programs that stand at
 * F000:0000 of a firmware image of 64 KiB. Each ends by writing to the exit port, 0 or the number
 * of the check that failed, unless ending in another way is what it is for.
 */

#define EXIT_PORT 0xf4
#define MESSAGE_PORT 0x402
#define SERIAL_PORT 0x3f8
#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA 0xcfc

    .section .rodata
    .code16

/* A program: its bytes lie between name and name_end. */
.macro program name
    .globl \name
\name:
.endm
.macro program_end name
    .globl \name\()_end
\name\()_end:
.endm

/* End the run with a value. */
.macro finish value
    movb $\value, %al
    outb %al, $EXIT_PORT
1:  jmp 1b
.endm

/* Go on if the last comparison was equal, else end the run with this number. */
.macro check number
    je 2f
    finish \number
2:
.endm

/* Write a byte of configuration space: bus 0, device and function, register. */
.macro config_byte devfn, register, value
    movl $(0x80000000 | (\devfn) << 8 | ((\register) & 0xfc)), %eax
    movw $CONFIG_ADDRESS, %dx
    outl %eax, %dx
    movw $(CONFIG_DATA + ((\register) & 3)), %dx
    movb $(\value), %al
    outb %al, %dx
.endm
.macro config_long devfn, register, value
    movl $(0x80000000 | (\devfn) << 8 | (\register)), %eax
    movw $CONFIG_ADDRESS, %dx
    outl %eax, %dx
    movw $CONFIG_DATA, %dx
    movl $(\value), %eax
    outl %eax, %dx
.endm

/* Says something on both ports, and ends with 0. */
program rom_messages
    movw $MESSAGE_PORT, %dx
    inb %dx, %al
    cmpb $0xe9, %al
    check 1
    movb $'A', %al
    outb %al, %dx
    movb $0x1b, %al /* not for the terminal */
    outb %al, %dx
    movb $'\n', %al
    outb %al, %dx
    movw $(SERIAL_PORT + 5), %dx
    inb %dx, %al
    cmpb $0x60, %al
    check 2
    movw $SERIAL_PORT, %dx
    movb $'B', %al
    outb %al, %dx
    finish 0
program_end rom_messages

program rom_exit_7
    finish 7
program_end rom_exit_7

/* ACPI soft-off, by a PM base that it chooses. */
program rom_power_off
    config_long 0x0b, 0x40, 0x0601
    config_byte 0x0b, 0x80, 0x01
    movw $0x608, %dx /* the timer runs */
    inl %dx, %eax
    movl %eax, %ebx
3:  inl %dx, %eax
    cmpl %ebx, %eax
    je 3b
    config_long 0x0b, 0x40, 0x0c01 /* move it */
    movw $0x608, %dx
    inl %dx, %eax
    cmpl $0xffffffff, %eax
    check 1
    movw $0xc04, %dx
    movw $0x2000, %ax
    outw %ax, %dx
3:  jmp 3b
program_end rom_power_off

program rom_reset
    movb $0xfe, %al
    outb %al, $0x64
3:  jmp 3b
program_end rom_reset

program rom_reset_cf9
    movw $0xcf9, %dx
    movb $0x06, %al
    outb %al, %dx
3:  jmp 3b
program_end rom_reset_cf9

program rom_halt
    cli
3:  hlt
    jmp 3b
program_end rom_halt

/* Runs for ever without exits, so that --for or a signal has to end it. */
program rom_spin
3:  jmp 3b
program_end rom_spin

/* No interrupt table and then an interrupt: a triple fault. */
program rom_crash
    lidtw %cs:(no_table - rom_crash)
    int3
3:  jmp 3b
no_table:
    .word 0
    .long 0
program_end rom_crash

/* Takes a timer interrupt now and then, and otherwise halts: idle. */
program rom_idle
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %ss
    movw $0x7000, %sp
    movw $(on_timer - rom_idle), (0x20 * 4)
    movw $0xf000, (0x20 * 4 + 2)
    movb $0x11, %al /* the first PIC: vectors from 0x20, the timer alone unmasked */
    outb %al, $0x20
    movb $0x20, %al
    outb %al, $0x21
    movb $0x04, %al
    outb %al, $0x21
    movb $0x01, %al
    outb %al, $0x21
    movb $0xfe, %al
    outb %al, $0x21
    movb $0x34, %al /* the PIT: channel 0 at 18.2 Hz */
    outb %al, $0x43
    xorb %al, %al
    outb %al, $0x40
    outb %al, $0x40
    sti
3:  hlt
    inb $0x92, %al
    jmp 3b
on_timer:
    pushw %ax
    movb $0x20, %al
    outb %al, $0x20
    popw %ax
    iretw
program_end rom_idle

/* The window at 0xd0000 in its four modes. */
program rom_pam
    movw $0xd000, %ax
    movw %ax, %ds
    cmpb $0xff, (0x10) /* closed: an empty bus */
    check 1
    movb $0x11, (0x10) /* which drops writes */
    config_byte 0, 0x5c, 0x03 /* reads and writes go to RAM */
    cmpb $0, (0x10)
    check 2
    movb $0x22, (0x10)
    cmpb $0x22, (0x10)
    check 3
    config_byte 0, 0x5c, 0x01 /* reads only */
    movb $0x33, (0x10)
    cmpb $0x22, (0x10)
    check 4
    config_byte 0, 0x5c, 0x02 /* writes only */
    movb $0x44, (0x10)
    cmpb $0xff, (0x10)
    check 5
    config_byte 0, 0x5c, 0x01
    cmpb $0x44, (0x10)
    check 6
    config_byte 0, 0x5c, 0x00
    cmpb $0xff, (0x10)
    check 7
    movw $0xcfc0, %ax /* its neighbour below has not been touched */
    movw %ax, %ds
    cmpb $0xff, (0x10)
    check 8
    finish 0
program_end rom_pam

/*
 * Firmware copies itself into the RAM beneath it while it runs, then runs there and changes
 * itself.
 */
program rom_shadow
    movw $0xf000, %ax
    movw %ax, %ds
    movw %ax, %es
    config_byte 0, 0x59, 0x20 /* the window at 0xf0000: writes go to RAM, reads to ROM */
    xorw %si, %si
    xorw %di, %di
    movw $(rom_shadow_end - rom_shadow), %cx
    cld
    rep movsb
    config_byte 0, 0x59, 0x10 /* reads go to RAM: what runs now is the copy */
    movb $0xaa, (shadow_byte - rom_shadow) /* and cannot be written */
    cmpb $0x55, (shadow_byte - rom_shadow)
    check 1
    config_byte 0, 0x59, 0x30
    movb $0xaa, (shadow_byte - rom_shadow)
    cmpb $0xaa, (shadow_byte - rom_shadow)
    check 2
    config_byte 0, 0x59, 0x00 /* back to ROM, which is as it was */
    cmpb $0x55, (shadow_byte - rom_shadow)
    check 3
    finish 0
shadow_byte:
    .byte 0x55
program_end rom_shadow

/* The SMRAM window: opened, written, closed, opened, locked. */
program rom_smram
    movw $0xa000, %ax
    movw %ax, %ds
    cmpb $0xff, (0)
    check 1
    config_byte 0, 0x72, 0x4a
    movb $0x77, (0)
    cmpb $0x77, (0)
    check 2
    config_byte 0, 0x72, 0x0a
    cmpb $0xff, (0)
    check 3
    config_byte 0, 0x72, 0x4a
    cmpb $0x77, (0)
    check 4
    config_byte 0, 0x72, 0x5a /* locked: closed for good */
    cmpb $0xff, (0)
    check 5
    config_byte 0, 0x72, 0x4a
    cmpb $0xff, (0)
    check 6
    finish 0
program_end rom_smram

/* BARs below 1 MiB, where real mode reaches: in the hole at 0xa0000. */
program rom_bars
    config_long 0x10, 0x10, 0xffffffff
    inl %dx, %eax
    cmpl $0xfffff000, %eax /* 4 KiB */
    check 1
    config_long 0x10, 0x14, 0xffffffff
    inl %dx, %eax
    cmpl $0xfff00008, %eax /* 1 MiB, prefetchable */
    check 2
    config_long 0x10, 0x10, 0x000a0000
    movw $0xa000, %ax
    movw %ax, %ds
    cmpl $0xffffffff, (0) /* not enabled yet */
    check 3
    config_byte 0x10, 0x04, 0x02
    cmpl $0x6d656d67, (0)
    check 4
    movl $0x12345678, (8)
    cmpl $0x12345678, (8)
    check 5
    config_long 0x10, 0x10, 0x000a8000 /* moved */
    cmpl $0xffffffff, (0)
    check 6
    movw $0xa800, %ax
    movw %ax, %ds
    cmpl $0x12345678, (8)
    check 7
    config_byte 0x10, 0x04, 0x00
    cmpl $0xffffffff, (0)
    check 8
    config_long 0x10, 0x14, 0xfee00000 /* over the local APIC, which stays */
    config_byte 0x10, 0x04, 0x02
    finish 0
program_end rom_bars

    .section .note.GNU-stack, "", @progbits
