/*
 * preload/beside.c - a program that does much else beside a VM: its own epoll loop with an eventfd, a timer and sockets, files,
 * pipes, mappings, directories, threads, processes, signals, raw system calls. It prints what each has come to, and so has to print
 * the same with the preloaded library and without; also without a /dev/kvm, which it passes over in silence.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/kvm.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096

static void tell(const char *what, long result)
{
    printf("%s: %ld %s\n", what, result, result < 0 ? strerrorname_np(errno) : "");
}

/* A VM in the background, if there is one to be had: the library then looks at every descriptor. */
static void make_vm(void)
{
    int system = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    int vm = system >= 0 ? ioctl(system, KVM_CREATE_VM, 0) : -1;

    /* Out of the way: the numbers of what is opened after are printed. */
    if (vm >= 0) {
        fcntl(vm, F_DUPFD_CLOEXEC, 700);
        fcntl(system, F_DUPFD_CLOEXEC, 701);
        close(vm);
    }
    if (system >= 0) {
        close(system);
    }
}

static void use_epoll(void)
{
    struct itimerspec soon = {.it_value = {0, 1000000}};
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    int event = eventfd(0, EFD_NONBLOCK);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event found[4];
    uint64_t value = 5;
    int ends[2];
    int seen = 0;

    tell("socketpair", socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends));
    const int fds[] = {event, timer, ends[1]};
    for (int i = 0; i < 3; i++) {
        struct epoll_event wanted = {.events = EPOLLIN, .data = {.u32 = (unsigned)i}};

        tell("epoll add", epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &wanted));
    }
    tell("timer", timerfd_settime(timer, 0, &soon, NULL));
    tell("event write", write(event, &value, 8));
    tell("send", send(ends[0], "hello", 5, 0));
    while (seen != 7) {
        int count = epoll_wait(epoll, found, 4, 5000);
        char bytes[16];

        if (count <= 0) {
            tell("epoll wait", count);
            return;
        }
        for (int i = 0; i < count; i++) {
            seen |= 1 << found[i].data.u32;
            if (read(fds[found[i].data.u32], bytes, sizeof(bytes)) <= 0) {
                tell("read of what is ready", -1);
            }
        }
    }
    tell("epoll loop", seen);
    tell("event again", read(event, &value, 8));
    close(epoll);
    close(event);
    close(timer);
    close(ends[0]);
    tell("recv after close", read(ends[1], &value, 8));
    close(ends[1]);
}

static void use_files(const char *folder)
{
    char path[200];
    char bytes[32] = "";
    char *map;
    FILE *file;
    int fd;

    snprintf(path, sizeof(path), "%s/file", folder);
    fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0640);
    tell("open", fd);
    tell("open again", open(path, O_RDWR | O_CREAT | O_EXCL, 0640));
    tell("write", write(fd, "0123456789", 10));
    tell("ftruncate", ftruncate(fd, 3 * PAGE));
    tell("lseek", lseek(fd, 2, SEEK_SET));
    tell("read", read(fd, bytes, 4));
    printf("%s\n", bytes);
    map = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    map[PAGE] = 'x';
    tell("mprotect", mprotect(map, PAGE, PROT_READ));
    tell("madvise", madvise(map + PAGE, PAGE, MADV_DONTNEED));
    printf("%c%c\n", map[2], map[PAGE]);
    tell("mremap of two", (long)mremap(map, 3 * PAGE, 5 * PAGE, MREMAP_MAYMOVE));
    tell("mprotect back", mprotect(map, PAGE, PROT_READ | PROT_WRITE));
    map = mremap(map, 3 * PAGE, 5 * PAGE, MREMAP_MAYMOVE);
    printf("%c\n", map[2]);
    tell("munmap", munmap(map, 5 * PAGE));
    tell("munmap badly", munmap((char *)map + 1, PAGE));
    tell("mprotect of nothing", mprotect(map, PAGE, PROT_READ));
    tell("terminal's ioctl", ioctl(fd, TIOCGWINSZ, bytes));
    tell("to be read", ioctl(fd, FIONREAD, bytes));
    tell("isatty", isatty(fd));
    tell("flock", flock(fd, LOCK_EX | LOCK_NB));
    tell("dup2", dup2(fd, 500));
    tell("dup3 same", dup3(fd, fd, 0));
    tell("close", close(fd));
    tell("close again", close(fd));
    tell("close -1", close(-1));
    tell("read closed", read(fd, bytes, 1));
    tell("write read-only", write(open(path, O_RDONLY), "x", 1));
    tell("close 500", close(500));
    file = fopen(path, "r");
    tell("fread", (long)fread(bytes, 1, 10, file));
    fclose(file);
    tell("access", access(path, R_OK | W_OK));
    tell("access not", access("/no/such", F_OK));
    tell("open folder", openat(AT_FDCWD, folder, O_RDWR));
    tell("unlink", unlink(path));
    tell("open bad", (int)syscall(SYS_open, (char *)8, O_RDONLY));
}

static void use_raw_calls(void)
{
    struct iovec vector = {(char[]){"raw\n"}, 4};
    void *map =
        (void *)syscall(SYS_mmap, NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR);

    tell("raw mmap", map != MAP_FAILED);
    tell("raw munmap", syscall(SYS_munmap, map, PAGE));
    tell("raw write", syscall(SYS_write, fd, "x", 1));
    tell("raw writev", syscall(SYS_writev, fd, &vector, 1));
    tell("raw dup3", syscall(SYS_dup3, fd, 501, 0));
    tell("raw close", syscall(SYS_close, 501));
    tell("raw close again", syscall(SYS_close, 501));
    tell("raw none", syscall(9999));
    tell("raw six", syscall(SYS_mmap, NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 7));
    tell("raw pid", syscall(SYS_getpid) == getpid());
    tell("close_range", close_range((unsigned)fd, (unsigned)fd, 0));
    tell("close_range badly", close_range(4, 3, 0));
    tell("close_range flags", close_range(600, 650, 0x100));
}

static void *thread(void *opaque)
{
    int *ends = opaque;
    char byte;

    return (void *)(read(ends[0], &byte, 1) + 10);
}

/* Blocked in read(), which is a cancellation point. */
static void *cancelled(void *opaque)
{
    char byte;

    (void)!read(*(int *)opaque, &byte, 1);
    return NULL;
}

static void use_threads(void)
{
    pthread_t other;
    void *result;
    int ends[2];

    tell("pipe", pipe(ends));
    pthread_create(&other, NULL, thread, ends);
    tell("write to thread", write(ends[1], "x", 1));
    pthread_join(other, &result);
    tell("thread", (long)result);
    pthread_create(&other, NULL, cancelled, &ends[0]);
    pthread_cancel(other);
    pthread_join(other, &result);
    tell("cancelled", result == PTHREAD_CANCELED);
    close(ends[0]);
    signal(SIGPIPE, SIG_IGN);
    tell("write to nobody", write(ends[1], "x", 1));
    close(ends[1]);
}

static void use_processes(void)
{
    char *arguments[] = {"sh", "-c", "exit 7", NULL};
    FILE *pipe_file;
    char line[64] = "";
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        closefrom(3);
        _exit(open("/dev/null", O_RDONLY));
    }
    waitpid(child, &status, 0);
    tell("fork", WEXITSTATUS(status));
    child = vfork();
    if (child == 0) {
        dup2(1, 9);
        close(9);
        execv("/bin/sh", arguments);
        _exit(1);
    }
    waitpid(child, &status, 0);
    tell("vfork", WEXITSTATUS(status));
    tell("posix_spawn", posix_spawn(&child, "/bin/sh", NULL, NULL, arguments, NULL));
    waitpid(child, &status, 0);
    tell("spawned", WEXITSTATUS(status));
    pipe_file = popen("echo piped", "r");
    printf("%s", fgets(line, sizeof(line), pipe_file));
    tell("pclose", pclose(pipe_file));
    child = (pid_t)syscall(SYS_fork);
    if (child == 0) {
        _exit(4);
    }
    waitpid(child, &status, 0);
    tell("raw fork", WEXITSTATUS(status));
}

static sigjmp_buf back;

static void jump(int number)
{
    siglongjmp(back, number);
}

static void use_signals(void)
{
    char *map = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int ends[2];
    char byte;

    signal(SIGSEGV, jump);
    if (sigsetjmp(back, 1) == 0) {
        *(volatile char *)map = 1;
    }
    tell("fault handled", 1);
    signal(SIGALRM, jump);
    (void)!pipe(ends);
    if (sigsetjmp(back, 1) == 0) {
        alarm(1);
        tell("read", read(ends[0], &byte, 1));
    }
    tell("jumped out of read", 1);
    close(ends[0]);
    close(ends[1]);
    munmap(map, PAGE);
}

/* What is open, as the kernel says: no more than without the library. */
static void list_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    struct dirent *entry;
    unsigned count = 0;

    while ((entry = readdir(folder)) != NULL) {
        count += atoi(entry->d_name) < 700;
    }
    closedir(folder);
    tell("open descriptors", count);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc != 2) {
        return 2;
    }
    make_vm();
    use_epoll();
    use_files(argv[1]);
    use_raw_calls();
    use_threads();
    use_processes();
    use_signals();
    list_descriptors();
    tell("next of open", dlsym(RTLD_NEXT, "open") != NULL);
    tell("default ioctl", dlsym(RTLD_DEFAULT, "ioctl") != NULL);
    tell("stdin", lseek(0, 0, SEEK_CUR));
    return 23;
}
