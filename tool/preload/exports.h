/*
 * preload/exports.h - what the library exports. In here a plain name is the kernel's call (preload/kernel.h); what the program gets
 * by that name is preload_NAME().
 */
#ifndef PRELOAD_EXPORTS_H
#define PRELOAD_EXPORTS_H

#include <fcntl.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

/* Of programs that are built with _FORTIFY_SOURCE: open() with flags that make no file. */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int directory, const char *path, int flags);
int __openat64_2(int directory, const char *path, int flags);

/* Beside the definition. */
#define EXPORT(name) extern __typeof__(name) name __attribute__((alias("preload_" #name)))

extern __typeof__(access) preload_access;
extern __typeof__(close) preload_close;
extern __typeof__(close_range) preload_close_range;
extern __typeof__(dup2) preload_dup2;
extern __typeof__(dup3) preload_dup3;
extern __typeof__(_exit) preload__exit;
extern __typeof__(fork) preload_fork;
extern __typeof__(ftruncate) preload_ftruncate;
extern __typeof__(ioctl) preload_ioctl;
extern __typeof__(madvise) preload_madvise;
extern __typeof__(mmap) preload_mmap;
extern __typeof__(mprotect) preload_mprotect;
extern __typeof__(mremap) preload_mremap;
extern __typeof__(munmap) preload_munmap;
extern __typeof__(open) preload_open;
extern __typeof__(openat) preload_openat;
extern __typeof__(pkey_mprotect) preload_pkey_mprotect;
extern __typeof__(read) preload_read;
extern __typeof__(shmdt) preload_shmdt;
extern __typeof__(write) preload_write;

#endif
