/*
 * program.c - reading the head of a program. It may be executable and not readable; then nothing is known, and that is an error.
 *
 * Source: System V ABI, "Object Files" and "Program Loading"; execve(2) for scripts.
 */
#include "program.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define GLIBC_LOADER "ld-linux-x86-64.so.2"

/* The kernel raises privileges by these, and the loader then keeps to the system's own libraries. */
static bool is_privileged(int fd, const struct stat *status)
{
    return (status->st_mode & S_ISUID) != 0 ||
           (status->st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) ||
           fgetxattr(fd, "security.capability", NULL, 0) > 0;
}

static enum program_kind examine_loader(int fd, const Elf64_Phdr *header)
{
    char loader[PROGRAM_PATH_BYTES];
    const char *name;

    if (header->p_filesz == 0 || header->p_filesz > sizeof(loader) ||
        pread(fd, loader, header->p_filesz, (off_t)header->p_offset) != (ssize_t)header->p_filesz ||
        loader[header->p_filesz - 1] != '\0') {
        return PROGRAM_UNKNOWN;
    }
    name = strrchr(loader, '/');
    return strcmp(name != NULL ? name + 1 : loader, GLIBC_LOADER) == 0 ? PROGRAM_DYNAMIC
                                                                       : PROGRAM_OTHER_LOADER;
}

static enum program_kind examine_elf(int fd)
{
    Elf64_Ehdr head;

    if (pread(fd, &head, sizeof(head), 0) != (ssize_t)sizeof(head) ||
        head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_ident[EI_DATA] != ELFDATA2LSB ||
        head.e_machine != EM_X86_64) {
        return PROGRAM_OTHER_MACHINE;
    }
    for (unsigned i = 0; i < head.e_phnum; i++) {
        Elf64_Phdr header;

        if (pread(fd, &header, sizeof(header), (off_t)(head.e_phoff + i * sizeof(header))) !=
            (ssize_t)sizeof(header)) {
            return PROGRAM_UNKNOWN;
        }
        if (header.p_type == PT_INTERP) {
            return examine_loader(fd, &header);
        }
    }
    return PROGRAM_STATIC;
}

/* "#! PATH [ARGUMENT]", of which the path is kept. */
static enum program_kind examine_script(const char *head, size_t length, char *interpreter)
{
    const char *begin = head + 2;
    const char *end = head + length;
    size_t path_length = 0;

    while (begin < end && (*begin == ' ' || *begin == '\t')) {
        begin++;
    }
    while (begin + path_length < end && strchr(" \t\r\n", begin[path_length]) == NULL) {
        path_length++;
    }
    if (path_length == 0) {
        return PROGRAM_UNKNOWN;
    }
    memcpy(interpreter, begin, path_length);
    interpreter[path_length] = '\0';
    return PROGRAM_SCRIPT;
}

enum program_kind program_examine(const char *path, char interpreter[PROGRAM_PATH_BYTES])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    enum program_kind kind = PROGRAM_UNKNOWN;
    struct stat status;
    char head[256];
    ssize_t length;

    if (fd < 0) {
        return PROGRAM_UNREADABLE;
    }
    length = pread(fd, head, sizeof(head), 0);
    if (length < 0 || fstat(fd, &status) != 0) {
        int error = errno;

        close(fd);
        errno = error;
        return PROGRAM_UNREADABLE;
    }
    if (length >= 2 && head[0] == '#' && head[1] == '!') {
        kind = examine_script(head, (size_t)length, interpreter);
    } else if (length >= SELFMAG && memcmp(head, ELFMAG, SELFMAG) == 0) {
        kind = is_privileged(fd, &status) ? PROGRAM_PRIVILEGED : examine_elf(fd);
    }
    close(fd);
    return kind;
}
