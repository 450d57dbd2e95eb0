/*
 * bench/threads.h - the same loop in several threads at once, for longer than one takes to start.
 */
#ifndef BENCH_THREADS_H
#define BENCH_THREADS_H

#include "measure.h"

#include <pthread.h>

#define BENCH_THREADS_MAX 2

struct bench_thread {
    pthread_t thread;
    pthread_barrier_t *start;
    void (*body)(void *context, uint64_t count);
    void *context;
    uint64_t count;
    double ns;
};

static inline void *run_bench_thread(void *argument)
{
    struct bench_thread *thread = argument;

    pthread_barrier_wait(thread->start);
    thread->ns = time_batches(thread->body, thread->context, thread->count, BENCH_BATCHES_MAX);
    return NULL;
}

/* Return: nanoseconds for each time in each thread: the same as with one, if they do not disturb each other. */
static inline double time_threads(unsigned threads, void (*body)(void *context, uint64_t count),
                                  void *context, uint64_t count)
{
    struct bench_thread all[BENCH_THREADS_MAX];
    pthread_barrier_t start;
    double sum = 0;

    need(pthread_barrier_init(&start, NULL, threads) == 0, "barrier");
    for (unsigned i = 0; i < threads; i++) {
        all[i] = (struct bench_thread){
            .start = &start, .body = body, .context = context, .count = count};
        need(pthread_create(&all[i].thread, NULL, run_bench_thread, &all[i]) == 0, "thread");
    }
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(all[i].thread, NULL);
        sum += all[i].ns;
    }
    pthread_barrier_destroy(&start);
    return sum / threads;
}

#endif
