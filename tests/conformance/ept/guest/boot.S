/*
 * conformance/ept/guest/boot.S - from the reset vector to 64-bit C, as the machine's whole firmware.
 *
 * The ROM is 64 KiB below 4 GiB: the program at its beginning, this code in the last page, the reset
 * vector in the last 16 bytes. The program is copied to 1 MiB, where it is linked; the image is read
 * from the first ATA disk. (Bochs can put files into RAM itself, but only the first 128 KiB of
 * each.) Memory below 1 MiB holds the stack and the page tables, which map the first 512 GiB one to one.
 *
 * Paging has as many levels as the tables in the image: nested paging of SVM walks its tables with the
 * host's number of levels.
 */
#define ROM 0xffff0000
#define BOOT_OFFSET 0xf000 /* of .boot in the ROM; guest.ld has it too */
#define STACK_TOP 0x80000
#define PML5 0x10000
#define PML4 0x11000
#define PDPT 0x12000

/* ORACLE_IMAGE_ADDRESS, and members of struct oracle_image there. */
#define IMAGE 0x2000000
#define IMAGE_LEVELS (IMAGE + 12)
#define IMAGE_SIZE_BYTES (IMAGE + 16)

/* ATA: ports, LBA with the first drive, the command READ SECTORS, and bits of the status. */
#define ATA_DATA 0x1f0
#define ATA_COUNT 0x1f2
#define ATA_LBA 0x1f3 /* to 0x1f5, and the top four bits in 0x1f6 */
#define ATA_STATUS 0x1f7
#define ATA_DRIVE_LBA 0xe0
#define ATA_READ_SECTORS 0x20
#define ATA_BUSY 0x80
#define ATA_DATA_READY 0x08

#define CR4_PAE 0x20
#define CR4_LA57 0x1000
#define EFER 0xc0000080
#define EFER_LME_NXE 0x900
#define CR0_PG_WP_NE_MP_PE 0x80010023

    .section .reset, "ax"
    .code16
    jmp boot16
    .balign 16

    .section .boot, "ax"
    .globl boot16
boot16:
    cli
    cld
    lgdtl %cs:(gdt_pointer - boot16 + BOOT_OFFSET)
    movl $0x21, %eax
    movl %eax, %cr0
    ljmpl $8, $boot32

    .code32
boot32:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $STACK_TOP, %esp
    movb $2, %al /* A20 */
    outb %al, $0x92

    movl $ROM, %esi
    movl $program_start, %edi
    movl $program_words, %ecx
    rep movsl
    movl $bss_start, %edi
    movl $bss_words, %ecx
    xorl %eax, %eax
    rep stosl

    movl $IMAGE, %edi /* its first sector, which says how many there are */
    xorl %ebp, %ebp
    movl $1, %ebx
    call read_sectors
    movl IMAGE_SIZE_BYTES, %ebx
    decl %ebx
    shrl $9, %ebx
    call read_sectors

    movl $PML5, %edi
    xorl %eax, %eax
    movl $(3 * 1024), %ecx
    rep stosl
    movl $(PML4 + 3), PML5
    movl $(PDPT + 3), PML4
    movl $PDPT, %edi
    movl $0x83, %eax /* present, writable, 1 GiB */
    xorl %edx, %edx
    movl $512, %ecx
1:  movl %eax, (%edi)
    movl %edx, 4(%edi)
    addl $8, %edi
    addl $0x40000000, %eax
    adcl $0, %edx
    loop 1b

    movl $CR4_PAE, %eax
    movl $PML4, %ebx
    cmpl $5, IMAGE_LEVELS
    jne 2f
    orl $CR4_LA57, %eax
    movl $PML5, %ebx
2:  movl %eax, %cr4
    movl %ebx, %cr3
    movl $EFER, %ecx
    rdmsr
    orl $EFER_LME_NXE, %eax
    wrmsr
    movl $CR0_PG_WP_NE_MP_PE, %eax
    movl %eax, %cr0
    ljmpl $0x18, $boot64

/* %ebx sectors from number %ebp on to %edi; all three move on. */
read_sectors:
    testl %ebx, %ebx
    jz 7f
    movl $ATA_COUNT, %edx
    movb $1, %al
    outb %al, %dx
    movl %ebp, %eax
    movl $3, %ecx
4:  incl %edx
    outb %al, %dx
    shrl $8, %eax
    loop 4b
    incl %edx
    orb $ATA_DRIVE_LBA, %al
    outb %al, %dx
    incl %edx
    movb $ATA_READ_SECTORS, %al
    outb %al, %dx
5:  inb %dx, %al
    testb $ATA_BUSY, %al
    jnz 5b
    testb $ATA_DATA_READY, %al
    jz 5b
    movl $ATA_DATA, %edx
    movl $256, %ecx
    rep insw
    incl %ebp
    decl %ebx
    jmp read_sectors
7:  ret

    .code64
boot64:
    movl $STACK_TOP, %esp
    movl $guest_main, %eax
    call *%rax
3:  hlt
    jmp 3b

    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff /* 0x08: 32-bit code */
    .quad 0x00cf93000000ffff /* 0x10: data */
    .quad 0x00af9b000000ffff /* 0x18: 64-bit code */
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .long gdt

    .section .note.GNU-stack, "", @progbits
