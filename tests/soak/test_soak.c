/*
 * soak/test_soak.c - guest, committer, harvester and notifier beside each other for some time (soak.h).
 *
 *   test_soak [SECONDS [nested | rings | shadow | kvm]...]     of each; without names: on all that there are
 */
#include "soak.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* What was freed is not kept for long, or it would look like a leak for minutes. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "quarantine_size_mb=4";
}

static const struct soak_mode modes[] = {
    {"nested", GM_ACCEL_SOFT, false, GM_SOFT_LOG_PROTECT, 0},
    {"rings", GM_ACCEL_SOFT, false, GM_SOFT_LOG_BUFFER, 1024},
    {"shadow", GM_ACCEL_SOFT, true, GM_SOFT_LOG_PROTECT, 0},
    {"kvm", GM_ACCEL_KVM, false, GM_SOFT_LOG_PROTECT, 0},
};

static unsigned seconds = 20;
static char **names;
static int name_count;

static bool is_chosen(const char *name)
{
    for (int i = 0; i < name_count; i++) {
        if (strcmp(names[i], name) == 0) {
            return true;
        }
    }
    return name_count == 0;
}

static bool opens(const struct soak_mode *mode)
{
    int fd;

    if (mode->accel == GM_ACCEL_SOFT) {
        return true;
    }
    fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (fd != -1) {
        close(fd);
    }
    return fd != -1;
}

static void run(const struct soak_mode *mode)
{
    static struct soak soak;
    void *(*const bodies[])(void *) = {soak_committer, soak_harvester, soak_notifier};
    pthread_t threads[3];
    pthread_t vcpus[SOAK_VCPUS];

    if (!is_chosen(mode->name) || !opens(mode)) {
        skip();
    }
    soak_open(&soak, mode);
    soak_run_vcpus(&soak, vcpus);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, bodies[i], &soak), 0);
    }
    soak_watch(&soak, seconds);
    atomic_store(&soak.end, true);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    soak_stop_vcpus(&soak, vcpus);
    soak_check_copies(&soak);
    soak_check_exits(&soak);
    soak_close(&soak);
}

static void soak_with_nested_paging_loses_nothing_and_is_bounded(void **state)
{
    /* The software KVM; writes are noticed by protection. */
    (void)state;
    run(&modes[0]);
}

static void soak_with_dirty_rings_loses_nothing_and_is_bounded(void **state)
{
    /* ... by buffers, and handed over in rings. */
    (void)state;
    run(&modes[1]);
}

static void soak_with_shadow_paging_loses_nothing_and_is_bounded(void **state)
{
    /* The software KVM shadows the guest's tables. */
    (void)state;
    run(&modes[2]);
}

static void soak_on_dev_kvm_loses_nothing_and_is_bounded(void **state)
{
    /* Linux's KVM hears from the kernel what goes. */
    (void)state;
    run(&modes[3]);
}

int main(int argument_count, char **arguments)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(soak_with_nested_paging_loses_nothing_and_is_bounded),
        cmocka_unit_test(soak_with_dirty_rings_loses_nothing_and_is_bounded),
        cmocka_unit_test(soak_with_shadow_paging_loses_nothing_and_is_bounded),
        cmocka_unit_test(soak_on_dev_kvm_loses_nothing_and_is_bounded),
    };

    if (argument_count > 1) {
        seconds = (unsigned)strtoul(arguments[1], NULL, 10);
    }
    if (argument_count > 2) {
        names = arguments + 2;
        name_count = argument_count - 2;
    }
    return cmocka_run_group_tests_name("soak", tests, NULL, NULL);
}
