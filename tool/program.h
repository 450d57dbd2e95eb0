/* program.h - what kind of file a program is: can a library be preloaded into it? */
#ifndef TOOL_PROGRAM_H
#define TOOL_PROGRAM_H

#include <stddef.h>

enum program_kind {
    PROGRAM_DYNAMIC, /* x86-64, started by glibc's loader */
    PROGRAM_SCRIPT,  /* #!; its interpreter is what is started */
    PROGRAM_STATIC,
    PROGRAM_OTHER_MACHINE, /* 32-bit, or of another architecture */
    PROGRAM_OTHER_LOADER,
    PROGRAM_PRIVILEGED, /* set-uid, set-gid, or with capabilities: the loader preloads nothing */
    PROGRAM_UNKNOWN,    /* neither ELF nor a script */
    PROGRAM_UNREADABLE, /* errno says why */
};

/* @interpreter: filled in for a script, with the path after #!. */
#define PROGRAM_PATH_BYTES 4096
enum program_kind program_examine(const char *path, char interpreter[PROGRAM_PATH_BYTES]);

#endif
