// SPDX-License-Identifier: Apache-2.0
// The thread pool. A run is over when its tasks are done, not when every thread has looked at it:
// a thread that the system does not schedule in time delays nobody but by the one task it is in.
//
// Every thread has a range of tasks of its own and takes them from its front, so that it walks
// through memory in order and stays off the others' cache lines; one that has none left takes some
// from the back of another range and runs them. A range is one word (first, end); taking is one
// compare and exchange, and only pool_run fills a range. `left` counts tasks that are not finished.
// From a task's taking to its subtraction from `left` the run cannot end, so the description of the
// run (run, context) is stable exactly while it may be read. A thread that is late from an earlier
// run, and takes from a range that is by now of this one, has simply joined this run.
//
// The mutex guards nothing but sleeping: workers wait for another `round`, the caller for left ==
// 0.
#include "base/pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/os.h"

#define POOL_THREADS_MAX 1024
#define POOL_STACK_SIZE  ((size_t)1024 * 1024)
#define POOL_SPIN_S      40e-6
#define POOL_STEAL_PART  8 // of a range, this part is taken by another thread at once

struct pool_worker {
    pthread_t handle;
    struct pool *pool;
    size_t thread;
};

// Tasks [first, end) as first << 32 | end. On a cache line of its own.
struct pool_range {
    _Alignas(MEM_ALIGN) _Atomic uint64_t tasks;
};

struct pool {
    size_t n_threads; // the caller included
    double spin_s;
    struct pool_worker *workers; // [n_threads - 1]
    size_t n_workers;            // those that were started
    struct pool_range *ranges;   // [n_threads]

    pool_task run;
    void *context;

    // Each on a cache line of its own: what one thread writes must not slow down the reading of the
    // rest.
    _Alignas(MEM_ALIGN) _Atomic uint64_t round; // runs so far
    _Alignas(MEM_ALIGN) _Atomic size_t left;
    _Alignas(MEM_ALIGN) atomic_size_t n_sleeping;
    atomic_bool is_caller_sleeping;
    atomic_bool is_stopping;
    atomic_bool is_running;

    pthread_mutex_t lock;
    pthread_cond_t work; // another round, or is_stopping
    pthread_cond_t done; // left == 0
};

#if defined(__x86_64__) || defined(__i386__)
static void cpu_relax(void)
{
    __builtin_ia32_pause();
}
#elif defined(__aarch64__)
static void cpu_relax(void)
{
    __asm__ volatile("yield" ::: "memory");
}
#else
static void cpu_relax(void)
{
    atomic_signal_fence(memory_order_seq_cst);
}
#endif

static bool is_called(struct pool *p, uint64_t seen)
{
    return atomic_load(&p->round) != seen || atomic_load(&p->is_stopping);
}

static bool is_done(struct pool *p, uint64_t unused)
{
    (void)unused;
    return atomic_load(&p->left) == 0;
}

// Waits for a short while; whether the condition came true.
static bool spin_until(struct pool *p, bool (*condition)(struct pool *, uint64_t), uint64_t seen)
{
    if (condition(p, seen)) {
        return true;
    }
    if (p->spin_s <= 0) {
        return false;
    }
    double end = os_seconds() + p->spin_s;
    do {
        for (int i = 0; i < 32; i++) {
            cpu_relax();
            if (condition(p, seen)) {
                return true;
            }
        }
    } while (os_seconds() < end);
    return false;
}

// ------------------------------------------------------------------------------------------ tasks

// Neighbouring tasks; none when n is 0.
struct span {
    size_t first;
    size_t n;
};

static uint64_t range_of(struct span s)
{
    return (uint64_t)s.first << 32 | (s.first + s.n);
}

static struct span span_of(uint64_t range)
{
    return (struct span){(size_t)(range >> 32),
                         (size_t)(range & UINT32_MAX) - (size_t)(range >> 32)};
}

static struct span take_own(struct pool_range *range)
{
    uint64_t now = atomic_load(&range->tasks);
    struct span s;
    while ((s = span_of(now)).n > 0) {
        uint64_t rest = range_of((struct span){s.first + 1, s.n - 1});
        if (atomic_compare_exchange_weak(&range->tasks, &now, rest)) {
            return (struct span){s.first, 1};
        }
    }
    return s;
}

// Several at once, as long as many are left: nobody can take them back, but they lie together.
static struct span take_others(struct pool_range *range)
{
    uint64_t now = atomic_load(&range->tasks);
    struct span s;
    while ((s = span_of(now)).n > 0) {
        size_t n = (s.n + POOL_STEAL_PART - 1) / POOL_STEAL_PART;
        if (atomic_compare_exchange_weak(&range->tasks, &now,
                                         range_of((struct span){s.first, s.n - n}))) {
            return (struct span){s.first + s.n - n, n};
        }
    }
    return s;
}

static struct span next_tasks(struct pool *p, size_t thread)
{
    struct span s = take_own(&p->ranges[thread]);
    for (size_t i = 1; s.n == 0 && i < p->n_threads; i++) {
        s = take_others(&p->ranges[(thread + i) % p->n_threads]);
    }
    return s;
}

// Runs tasks until there are no more to take.
static void work(struct pool *p, size_t thread)
{
    size_t n_done = 0;
    for (struct span s; (s = next_tasks(p, thread)).n > 0; n_done += s.n) {
        for (size_t i = 0; i < s.n; i++) {
            p->run(p->context, s.first + i, thread);
        }
    }
    // The run may be over, and the next one begun, as soon as this is subtracted.
    if (n_done > 0 && atomic_fetch_sub(&p->left, n_done) == n_done &&
        atomic_load(&p->is_caller_sleeping)) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_signal(&p->done);
        pthread_mutex_unlock(&p->lock);
    }
}

// ---------------------------------------------------------------------------------------- waiting

static void sleep_until_called(struct pool *p, uint64_t seen)
{
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->n_sleeping, 1);
    while (!is_called(p, seen)) {
        pthread_cond_wait(&p->work, &p->lock);
    }
    atomic_fetch_sub(&p->n_sleeping, 1);
    pthread_mutex_unlock(&p->lock);
}

static void sleep_until_done(struct pool *p)
{
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->is_caller_sleeping, true);
    while (!is_done(p, 0)) {
        pthread_cond_wait(&p->done, &p->lock);
    }
    atomic_store(&p->is_caller_sleeping, false);
    pthread_mutex_unlock(&p->lock);
}

// Interrupts belong to the program's own threads: a read that waits for the user must be the one
// that Ctrl-C ends. Signals that a fault raises stay with the thread that made it.
static void block_signals(void)
{
    sigset_t set;
    sigfillset(&set);
    sigdelset(&set, SIGSEGV);
    sigdelset(&set, SIGBUS);
    sigdelset(&set, SIGFPE);
    sigdelset(&set, SIGILL);
    sigdelset(&set, SIGABRT);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static void *worker_main(void *argument)
{
    struct pool_worker *w = argument;
    struct pool *p = w->pool;
    uint64_t seen = 0;
    block_signals();
    for (;;) {
        if (!spin_until(p, is_called, seen)) {
            sleep_until_called(p, seen);
        }
        if (atomic_load(&p->is_stopping)) {
            return NULL;
        }
        seen = atomic_load(&p->round);
        work(p, w->thread);
    }
}

static int start_worker(struct pool *p, struct carat_error *err)
{
    struct pool_worker *w = &p->workers[p->n_workers];
    w->pool = p;
    w->thread = p->n_workers + 1;
    pthread_attr_t attributes;
    int rc = pthread_attr_init(&attributes);
    if (rc == 0) {
        pthread_attr_setstacksize(&attributes, POOL_STACK_SIZE);
        rc = pthread_create(&w->handle, &attributes, worker_main, w);
        pthread_attr_destroy(&attributes);
    }
    if (rc) {
        return fail(err, CARAT_E_MEMORY,
                    "the system starts no thread number %zu of %zu; ask for fewer", w->thread + 1,
                    p->n_threads);
    }
    p->n_workers++;
    return 0;
}

int pool_new(struct pool **out, size_t n_threads, struct carat_error *err)
{
    n_threads = n_threads > 0 ? n_threads : os_cores();
    if (n_threads > POOL_THREADS_MAX) {
        return fail(err, CARAT_E_ARGUMENT, "%zu threads: at most %d are allowed", n_threads,
                    POOL_THREADS_MAX);
    }
    struct pool *p = mem_new(sizeof(*p), err);
    if (!p) {
        return CARAT_E_MEMORY;
    }
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->done, NULL);
    p->n_threads = n_threads;
    // With more threads than processors, one that spins takes one from a thread that has work.
    p->spin_s = n_threads <= os_processors() ? POOL_SPIN_S : 0;
    int rc = CARAT_E_MEMORY;
    p->workers = mem_new_array(n_threads, sizeof(*p->workers), err);
    p->ranges = mem_new_array(n_threads, sizeof(*p->ranges), err);
    if (!p->workers || !p->ranges) {
        goto out;
    }
    rc = 0;
    while (rc == 0 && p->n_workers + 1 < n_threads) {
        rc = start_worker(p, err);
    }
    if (rc) {
        goto out;
    }
    *out = p;
    p = NULL;
out:
    pool_free(p);
    return rc;
}

void pool_free(struct pool *p)
{
    if (!p) {
        return;
    }
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->is_stopping, true);
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (size_t i = 0; i < p->n_workers; i++) {
        pthread_join(p->workers[i].handle, NULL);
    }
    pthread_cond_destroy(&p->done);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
    mem_free(p->ranges);
    mem_free(p->workers);
    mem_free(p);
}

size_t pool_threads(const struct pool *p)
{
    return p ? p->n_threads : 1;
}

static void wake_workers(struct pool *p, size_t n_tasks)
{
    size_t n_sleeping = atomic_load(&p->n_sleeping);
    if (n_sleeping == 0) {
        return;
    }
    pthread_mutex_lock(&p->lock);
    if (n_sleeping < n_tasks) {
        pthread_cond_broadcast(&p->work);
    } else {
        // The caller takes one task itself.
        for (size_t i = 1; i < n_tasks; i++) {
            pthread_cond_signal(&p->work);
        }
    }
    pthread_mutex_unlock(&p->lock);
}

// Neighbouring tasks to the same thread, the first to the caller.
static void share_out(struct pool *p, size_t n_tasks)
{
    size_t first = 0;
    for (size_t i = 0; i < p->n_threads; i++) {
        size_t n = n_tasks / p->n_threads + (i < n_tasks % p->n_threads);
        atomic_store(&p->ranges[i].tasks, range_of((struct span){first, n}));
        first += n;
    }
}

void pool_run(struct pool *p, size_t n_tasks, pool_task run, void *context)
{
    if (!p || p->n_threads == 1 || n_tasks <= 1) {
        for (size_t i = 0; i < n_tasks; i++) {
            run(context, i, 0);
        }
        return;
    }
    require(n_tasks <= UINT32_MAX);
    require(!atomic_exchange(&p->is_running, true));
    p->run = run;
    p->context = context;
    atomic_store(&p->left, n_tasks);
    share_out(p, n_tasks); // publishes all of the above
    atomic_fetch_add(&p->round, 1);
    wake_workers(p, n_tasks);
    work(p, 0);
    if (!spin_until(p, is_done, 0)) {
        sleep_until_done(p);
    }
    atomic_store(&p->is_running, false);
}
