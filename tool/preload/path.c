/* preload/path.c - /dev/kvm by its name, and by its number. */
#include "preload/path.h"

#include "preload/kernel.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#define KVM_DEVICE makedev(10, 232) /* misc, KVM_MINOR of <linux/miscdevice.h> */

bool path_is_kvm_device(int fd)
{
    struct stat status;

    return kernel_call(SYS_fstat, fd, &status) == 0 && S_ISCHR(status.st_mode) &&
           status.st_rdev == KVM_DEVICE;
}

/* A folder's name, absolute. Return: its length; 0 it has none that is known. */
static size_t name_folder(int directory, char name[PATH_MAX])
{
    char link[32] = "/proc/self/fd/";
    char digits[12];
    char *digit = digits + sizeof(digits) - 1;
    long length;

    if (directory == AT_FDCWD) {
        length = kernel_call(SYS_getcwd, name, PATH_MAX);
        return length > 0 && name[0] == '/' ? (size_t)length - 1 : 0;
    }
    if (directory < 0) {
        return 0;
    }
    *digit = '\0';
    do {
        *--digit = (char)('0' + directory % 10);
        directory /= 10;
    } while (directory != 0);
    strcat(link, digit);
    length = kernel_call(SYS_readlink, link, name, PATH_MAX - 1);
    return length > 0 && name[0] == '/' ? (size_t)length : 0;
}

/* Append the parts of @path to @name, of @length bytes; "." and ".." go by their letters. Return: false too long. */
static bool append(char name[PATH_MAX], size_t *length, const char *path)
{
    while (*path != '\0') {
        size_t part = strcspn(path, "/");

        if (part == 2 && path[0] == '.' && path[1] == '.') {
            while (*length > 0 && name[--*length] != '/') {
            }
        } else if (part != 0 && !(part == 1 && path[0] == '.')) {
            if (*length + part + 1 >= PATH_MAX) {
                return false;
            }
            name[(*length)++] = '/';
            memcpy(name + *length, path, part);
            *length += part;
        }
        path += part;
        path += strspn(path, "/");
    }
    return true;
}

bool path_is_kvm(int directory, const char *path)
{
    static const char kvm[] = "/dev/kvm";
    char name[PATH_MAX];
    size_t length = 0;
    size_t given = strlen(path);

    /* Most names end differently. */
    if (given < 3 || strcmp(path + given - 3, "kvm") != 0) {
        return false;
    }
    if (path[0] != '/') {
        length = name_folder(directory, name);
        if (length == 0) {
            return false;
        }
        if (length == 1) {
            length = 0; /* "/" */
        }
    }
    return append(name, &length, path) && length == sizeof(kvm) - 1 &&
           memcmp(name, kvm, length) == 0;
}
