/* preload/path.h - which names mean /dev/kvm. */
#ifndef PRELOAD_PATH_H
#define PRELOAD_PATH_H

#include <stdbool.h>

/* Is it a name for /dev/kvm? By its letters alone, as the file may not be there. @directory: as openat()'s. Async-signal-safe. */
bool path_is_kvm(int directory, const char *path);

/* Is it the device's own descriptor? */
bool path_is_kvm_device(int fd);

#endif
