/*
 * cmd_soft.c - `guestmem soft`: run a script of slots, dirty logs and guest accesses on the
 * software KVM, or on /dev/kvm.
 */
#include "soft_run.h"
#include "tool.h"

#include <stdio.h>
#include <string.h>

static const char help[] =
    "Usage: guestmem soft [--accel soft|kvm] FILE\n"
    "\n"
    "Run a script of KVM's memory calls and of a guest's accesses, and print each line with what "
    "it\n"
    "came to: on the software KVM, or with --accel kvm on /dev/kvm. FILE has one item a line, or "
    "is -\n"
    "for stdin. Numbers are hexadecimal. A line that begins with # is only echoed.\n"
    "\n"
    "  vm                            a new VM with one vCPU; memory as at first\n"
    "  set SLOT FLAGS GPA SIZE OFF   KVM_SET_USER_MEMORY_REGION of the 2 MiB of memory from OFF "
    "on\n"
    "  seta SLOT FLAGS GPA SIZE HVA  the same with a host address\n"
    "  log SLOT PAGES                KVM_GET_DIRTY_LOG; prints dirty pages\n"
    "  clear SLOT FIRST N WORD...    KVM_CLEAR_DIRTY_LOG with a bitmap of 64-bit words\n"
    "  cap CAP ARG                   KVM_ENABLE_CAP on the VM\n"
    "  w N GPA VALUE                 the guest stores N = 1, 2, 4, 8 bytes\n"
    "  r N GPA                       loads them; ra N GPA: through a read-only mapping\n"
    "  add GPA VALUE                 lock add of 8 bytes\n"
    "  movs DST SRC N                rep movsb\n"
    "  x GPA                         jumps there\n"
    "  hw OFF VALUE                  the host stores 8 bytes in the memory; hr OFF loads them\n"
    "  madv OFF SIZE                 madvise(MADV_DONTNEED)\n"
    "  mprot OFF SIZE PROT           mprotect(); 0 none, 1 read, 3 read and write\n"
    "  sum                           a checksum of the memory\n"
    "\n"
    "  --accel soft|kvm   what the script runs on (soft)\n"
    "  -h, --help         this text\n"
    "\n"
    "guestmem(1) has the results. Exit code: 0, also where calls fail; 1 a VM cannot be made, or "
    "the\n"
    "output cannot be written; 2 a line is wrong: FILE:LINE says how, and none has been run; 3\n"
    "/dev/kvm does not open.\n";

static const struct script_machine_ops *const machines[] = {&script_soft_ops, &script_kvm_ops};

static const struct script_machine_ops *find_machine(const char *name)
{
    size_t i;

    for (i = 0; i < sizeof(machines) / sizeof(machines[0]); i++) {
        if (name == NULL || strcmp(name, machines[i]->name) == 0) {
            return machines[i];
        }
    }
    tool_error("soft: --accel takes soft or kvm, not %s (see guestmem soft --help)", name);
    return NULL;
}

int cmd_soft(int argc, char **argv)
{
    struct tool_options options = {.help = help, .takes_accel = true};
    const struct script_machine_ops *ops;
    struct script script = {0};
    struct lines lines;
    int exit_code;

    if (!tool_options_parse(&options, argc, argv, &exit_code)) {
        return exit_code;
    }
    ops = find_machine(options.accel);
    if (ops == NULL) {
        return TOOL_BAD_INPUT;
    }
    exit_code = TOOL_BAD_INPUT;
    if (lines_open(&lines, options.path) == 0 && script_read(&script, &lines) == 0) {
        exit_code = script_run(&script, ops);
    }
    script_free(&script);
    lines_close(&lines);
    return exit_code;
}
