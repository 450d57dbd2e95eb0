/* main.c - the tool's top level: which command is meant, and what there is to know without one. */
#include "tool.h"

#include <guestmem/version.h>

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"flat", cmd_flat}, {"kvm", cmd_kvm},     {"replay", cmd_replay}, {"run", cmd_run},
    {"show", cmd_show}, {"slots", cmd_slots}, {"soft", cmd_soft},     {"translate", cmd_translate},
};

static int print_usage(void)
{
    printf(
        "guestmem %s - what a virtual machine's memory looks like, and what edits do to it\n"
        "\n"
        "First, try one of these:\n"
        "  guestmem run            boot a firmware on a small PC\n"
        "  guestmem show FILE      look at a machine's memory map; guestmem show --help has one\n"
        "\n"
        "Commands:\n"
        "  run        boot a firmware on memory that guestmem describes, then report on it\n"
        "  show       a map for people: tree, flat view and slots\n"
        "  flat       a map for programs: the flat view of each address space\n"
        "  replay     apply edits to a map: what listeners and slots are told, step by step\n"
        "  kvm        run an unmodified program that uses /dev/kvm on the software KVM\n"
        "  slots      what a program did to its VMs' slots, from a trace or an strace of it\n"
        "  soft       run a script of slots and guest accesses on a software KVM, or on /dev/kvm\n"
        "  translate  how a guest's virtual addresses translate, entry by entry\n"
        "\n"
        "guestmem COMMAND --help says more; guestmem(1) describes the formats.\n",
        gm_version());
    return tool_finish_output();
}

static int print_version(void)
{
    printf("guestmem %s\n", gm_version());
    return tool_finish_output();
}

static int run_command(int argc, char **argv)
{
    size_t i;

    for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(argv[0], commands[i].name) == 0) {
            return commands[i].run(argc, argv);
        }
    }
    tool_error("unknown command '%s' (guestmem --help lists them)", argv[0]);
    return TOOL_BAD_INPUT;
}

int main(int argc, char **argv)
{
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        return print_usage();
    }
    if (strcmp(argv[1], "--version") == 0) {
        return print_version();
    }
    if (strcmp(argv[1], "help") == 0) {
        static char help[] = "--help";
        char *ask[] = {argv[argc > 2 ? 2 : 1], help, NULL};

        return argc > 2 ? run_command(2, ask) : print_usage();
    }
    return run_command(argc - 1, argv + 1);
}
