// SPDX-License-Identifier: Apache-2.0
// The thread pool. A run is over when its tasks are done, not when every thread has looked at it:
// a thread that the system does not schedule in time delays nobody.
//
// Two counters carry a run. `open` counts tasks that nobody has claimed; a claim is one
// subtraction, and it is valid when the value before was positive. `left` counts tasks that are
// not finished. Between a valid claim and its subtraction from `left` the run cannot end, so the
// description of the run (n_tasks, run, context) is stable exactly while it may be read.
//
// The mutex guards nothing but sleeping: workers wait for open > 0, the caller for left == 0.
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

struct pool_worker {
    pthread_t handle;
    struct pool *pool;
    size_t thread;
};

struct pool {
    size_t n_threads; // the caller included
    double spin_s;
    struct pool_worker *workers; // [n_threads - 1]
    size_t n_workers;            // those that were started

    size_t n_tasks;
    pool_task run;
    void *context;

    // Each on a cache line of its own: the claims of many threads must not slow down the reading
    // of the rest.
    _Alignas(MEM_ALIGN) _Atomic int64_t open;
    _Alignas(MEM_ALIGN) _Atomic size_t left;
    _Alignas(MEM_ALIGN) atomic_size_t n_sleeping;
    atomic_bool is_caller_sleeping;
    atomic_bool is_stopping;
    atomic_bool is_running;

    pthread_mutex_t lock;
    pthread_cond_t work; // open > 0, or is_stopping
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

static bool has_work(struct pool *p)
{
    return atomic_load(&p->open) > 0 || atomic_load(&p->is_stopping);
}

static bool is_done(struct pool *p)
{
    return atomic_load(&p->left) == 0;
}

// Waits for a short while; whether the condition came true.
static bool spin_until(struct pool *p, bool (*condition)(struct pool *))
{
    if (condition(p)) {
        return true;
    }
    if (p->spin_s <= 0) {
        return false;
    }
    double end = os_seconds() + p->spin_s;
    do {
        for (int i = 0; i < 32; i++) {
            cpu_relax();
            if (condition(p)) {
                return true;
            }
        }
    } while (os_seconds() < end);
    return false;
}

// Claims and runs tasks until none is open.
static void work(struct pool *p, size_t thread)
{
    size_t n_done = 0;
    for (;;) {
        int64_t open = atomic_fetch_sub(&p->open, 1);
        if (open <= 0) {
            break;
        }
        p->run(p->context, p->n_tasks - (size_t)open, thread);
        n_done++;
    }
    // The run may be over, and the next one begun, as soon as this is subtracted.
    if (n_done > 0 && atomic_fetch_sub(&p->left, n_done) == n_done &&
        atomic_load(&p->is_caller_sleeping)) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_signal(&p->done);
        pthread_mutex_unlock(&p->lock);
    }
}

static void sleep_until_work(struct pool *p)
{
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->n_sleeping, 1);
    while (!has_work(p)) {
        pthread_cond_wait(&p->work, &p->lock);
    }
    atomic_fetch_sub(&p->n_sleeping, 1);
    pthread_mutex_unlock(&p->lock);
}

static void sleep_until_done(struct pool *p)
{
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->is_caller_sleeping, true);
    while (!is_done(p)) {
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
    block_signals();
    for (;;) {
        if (!spin_until(p, has_work)) {
            sleep_until_work(p);
        }
        if (atomic_load(&p->is_stopping)) {
            return NULL;
        }
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
    // With more threads than cores, one that spins takes the core from one that has work.
    p->spin_s = n_threads <= os_cores() ? POOL_SPIN_S : 0;
    int rc = CARAT_E_MEMORY;
    p->workers = mem_new_array(n_threads, sizeof(*p->workers), err);
    if (!p->workers) {
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

void pool_run(struct pool *p, size_t n_tasks, pool_task run, void *context)
{
    if (!p || p->n_threads == 1 || n_tasks <= 1) {
        for (size_t i = 0; i < n_tasks; i++) {
            run(context, i, 0);
        }
        return;
    }
    require(n_tasks <= INT64_MAX / 2);
    require(!atomic_exchange(&p->is_running, true));
    p->n_tasks = n_tasks;
    p->run = run;
    p->context = context;
    atomic_store(&p->left, n_tasks);
    atomic_store(&p->open, (int64_t)n_tasks); // publishes all of the above
    wake_workers(p, n_tasks);
    work(p, 0);
    if (!spin_until(p, is_done)) {
        sleep_until_done(p);
    }
    atomic_store(&p->is_running, false);
}
