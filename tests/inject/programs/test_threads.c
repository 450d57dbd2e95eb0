/*
 * inject/test_threads.c - no more threads, also for liburcu, which frees what commits replace on one of its own and ends the process if
 * it cannot make that. This program's pthread_create() comes before the C library's for everyone. Each test has a process of its own,
 * since liburcu makes its thread once.
 */
#include "inject/inject.h"

#include <guestmem/guestmem.h>
#include <guestmem/soft.h>

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static bool no_threads;

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                   void *(*begin)(void *opaque), void *opaque)
{
    int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) =
        (int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *))(uintptr_t)dlsym(
            RTLD_NEXT, "pthread_create");

    return no_threads ? EAGAIN : next(thread, attributes, begin, opaque);
}

static int without_threads(int (*make)(void))
{
    int rc;

    no_threads = true;
    rc = make();
    no_threads = false;
    return rc;
}

/* Return: the exit code of a process that makes something without threads, and then with them. */
static int in_child(int (*make)(void))
{
    pid_t child = fork();
    int status;

    if (child == 0) {
        int rc = without_threads(make);

        _exit(rc != -ENOMEM ? 1 : make() != 0 ? 2 : without_threads(make) != 0 ? 3 : 0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* A map, whose end is deferred. */
static int make_map(void)
{
    struct gm_map *map;
    int rc = gm_map_new(NULL, &map, NULL);

    if (rc == 0) {
        gm_map_free(map);
    }
    return rc;
}

static int make_soft(void)
{
    struct gm_soft *soft;
    int rc = gm_soft_open(NULL, &soft, NULL);

    return rc == 0 ? gm_soft_close(soft) : rc;
}

/* A block whose pages are marked: the first mark makes a record, whose end is deferred. */
static int make_record(void)
{
    struct gm_harvest *harvest;
    struct gm_ram *ram;
    int rc = gm_ram_new_anon(0x1000, NULL, &ram, NULL);

    if (rc == 0) {
        rc = gm_ram_dirty_begin(ram, 1);
        if (rc == 0) {
            gm_ram_dirty_mark(ram, 0, 1, 1u << 1);
            rc = gm_harvest_begin(ram, 1, 0, 0x1000, &harvest);
            if (rc == 0) {
                gm_harvest_commit(harvest);
            }
            gm_ram_dirty_end(ram, 1);
        }
        gm_ram_put(ram);
    }
    return rc;
}

static void map_without_liburcus_thread_is_no_memory(void **state)
{
    (void)state;
    assert_int_equal(in_child(make_map), 0);
}

static void soft_vm_without_liburcus_thread_is_no_memory(void **state)
{
    (void)state;
    assert_int_equal(in_child(make_soft), 0);
}

static void dirty_record_without_liburcus_thread_is_no_memory(void **state)
{
    (void)state;
    assert_int_equal(in_child(make_record), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(map_without_liburcus_thread_is_no_memory),
        cmocka_unit_test(soft_vm_without_liburcus_thread_is_no_memory),
        cmocka_unit_test(dirty_record_without_liburcus_thread_is_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
