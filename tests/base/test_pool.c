// SPDX-License-Identifier: Apache-2.0
#include "base/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/os.h"

#define TASKS_MAX 3000

struct tally {
    size_t n_threads;
    atomic_size_t n_wrong_thread;
    atomic_uchar in_use[256];      // threads inside a task: never two of the same number
    unsigned char runs[TASKS_MAX]; // not atomic: a task that runs twice at once is a data race
};

static void count_task(void *context, size_t task, size_t thread)
{
    struct tally *t = context;
    if (thread >= t->n_threads || atomic_fetch_add(&t->in_use[thread], 1) != 0) {
        atomic_fetch_add(&t->n_wrong_thread, 1);
    }
    t->runs[task]++;
    atomic_fetch_sub(&t->in_use[thread], 1);
}

static void test_pool_runs_each_task_exactly_once(void **state)
{
    (void)state;
    const size_t n_threads[] = {1, 2, 3, 4, 8, 17};
    const size_t n_tasks[] = {0, 1, 2, 3, 5, 16, 64, 1000, TASKS_MAX};
    for (size_t i = 0; i < sizeof(n_threads) / sizeof(n_threads[0]); i++) {
        struct pool *p = NULL;
        assert_int_equal(pool_new(&p, n_threads[i], NULL), 0);
        assert_int_equal(pool_threads(p), n_threads[i]);
        for (size_t round = 0; round < 20; round++) {
            for (size_t k = 0; k < sizeof(n_tasks) / sizeof(n_tasks[0]); k++) {
                struct tally t = {.n_threads = n_threads[i]};
                pool_run(p, n_tasks[k], count_task, &t);
                size_t n_wrong = 0;
                for (size_t task = 0; task < TASKS_MAX; task++) {
                    n_wrong += t.runs[task] != (task < n_tasks[k]);
                }
                assert_int_equal(n_wrong, 0);
                assert_int_equal(atomic_load(&t.n_wrong_thread), 0);
            }
        }
        pool_free(p);
    }
}

// Runs that follow each other at once: a thread that is late from one must not disturb the next.
static void test_pool_survives_many_short_runs(void **state)
{
    (void)state;
    struct pool *p = NULL;
    assert_int_equal(pool_new(&p, 4, NULL), 0);
    for (size_t round = 0; round < 3000; round++) {
        struct tally t = {.n_threads = 4};
        size_t n_tasks = 2 + round % 7;
        pool_run(p, n_tasks, count_task, &t);
        for (size_t task = 0; task < 10; task++) {
            assert_int_equal(t.runs[task], task < n_tasks);
        }
    }
    pool_free(p);
}

static void nap(void *context, size_t task, size_t thread)
{
    (void)thread;
    unsigned char *runs = context;
    struct timespec t = {.tv_nsec = 3000000};
    nanosleep(&t, NULL);
    runs[task]++;
}

// Tasks and pauses long enough that everybody goes to sleep in between.
static void test_pool_wakes_sleepers(void **state)
{
    (void)state;
    struct pool *p = NULL;
    assert_int_equal(pool_new(&p, 3, NULL), 0);
    for (size_t round = 0; round < 10; round++) {
        unsigned char runs[5] = {0};
        pool_run(p, 5, nap, runs);
        for (size_t i = 0; i < 5; i++) {
            assert_int_equal(runs[i], 1);
        }
        struct timespec t = {.tv_nsec = 2000000};
        nanosleep(&t, NULL);
    }
    pool_free(p);
}

// Task `held` ends when all others have: nobody may be left waiting behind it.
struct hold {
    size_t held, n_tasks;
    atomic_size_t n_others;
    atomic_bool was_late;
};

static void hold_task(void *context, size_t task, size_t thread)
{
    (void)thread;
    struct hold *h = context;
    if (task != h->held) {
        atomic_fetch_add(&h->n_others, 1);
        return;
    }
    double end = os_seconds() + 20;
    while (atomic_load(&h->n_others) + 1 < h->n_tasks) {
        if (os_seconds() > end) {
            atomic_store(&h->was_late, true);
            return;
        }
    }
}

// A thread that is stuck in its first task, as one that the system took the core from, holds up
// that task alone: the rest of its share goes to the others.
static void test_pool_shares_out_what_a_stuck_thread_has_left(void **state)
{
    (void)state;
    for (size_t n_threads = 2; n_threads <= 5; n_threads++) {
        struct pool *p = NULL;
        assert_int_equal(pool_new(&p, n_threads, NULL), 0);
        const size_t n_tasks[] = {2, 3, 7, 100, TASKS_MAX};
        for (size_t k = 0; k < sizeof(n_tasks) / sizeof(n_tasks[0]); k++) {
            struct hold h = {.held = 0, .n_tasks = n_tasks[k]};
            pool_run(p, n_tasks[k], hold_task, &h);
            assert_false(atomic_load(&h.was_late));
            assert_int_equal(atomic_load(&h.n_others), n_tasks[k] - 1);
        }
        pool_free(p);
    }
}

struct order {
    size_t last[8]; // task + 1 that each thread ran last
    atomic_size_t n_jumps;
};

static void note_order(void *context, size_t task, size_t thread)
{
    struct order *o = context;
    if (o->last[thread] != task) {
        atomic_fetch_add(&o->n_jumps, 1);
    }
    o->last[thread] = task + 1;
}

// Tasks that lie together in memory are run in order by one thread, but for the few times that it
// takes from somebody else: what a task reads ahead is then its own.
static void test_pool_walks_in_order(void **state)
{
    (void)state;
    struct pool *p = NULL;
    assert_int_equal(pool_new(&p, 4, NULL), 0);
    for (size_t round = 0; round < 100; round++) {
        struct order o = {0};
        pool_run(p, TASKS_MAX, note_order, &o);
        assert_true(atomic_load(&o.n_jumps) < TASKS_MAX / 4);
    }
    pool_free(p);
}

static void test_pool_null_runs_on_the_caller(void **state)
{
    (void)state;
    struct tally t = {.n_threads = 1};
    assert_int_equal(pool_threads(NULL), 1);
    pool_run(NULL, 100, count_task, &t);
    for (size_t i = 0; i < 101; i++) {
        assert_int_equal(t.runs[i], i < 100);
    }
    assert_int_equal(atomic_load(&t.n_wrong_thread), 0);
    pool_free(NULL);
}

static void test_pool_defaults_to_the_cores(void **state)
{
    (void)state;
    struct pool *p = NULL;
    assert_int_equal(pool_new(&p, 0, NULL), 0);
    assert_int_equal(pool_threads(p), os_cores());
    pool_free(p);
}

static void test_pool_refuses_absurd_sizes(void **state)
{
    (void)state;
    struct pool *p = NULL;
    struct carat_error err = {0};
    assert_int_equal(pool_new(&p, SIZE_MAX, &err), CARAT_E_ARGUMENT);
    assert_int_equal(err.status, CARAT_E_ARGUMENT);
    assert_null(p);
}

static void test_pool_new_reports_no_memory(void **state)
{
    (void)state;
    size_t before = mem_bytes_now();
    struct pool *p = NULL;
    size_t n = 0;
    int rc;
    do {
        struct carat_error err = {0};
        mem_fail_nth(++n);
        rc = pool_new(&p, 2, &err);
        mem_fail_nth(0);
        assert_int_equal(err.status, rc);
        assert_int_equal(rc == 0, p != NULL);
        assert_true(rc == 0 || (rc == CARAT_E_MEMORY && mem_bytes_now() == before));
    } while (rc);
    assert_true(n > 1);
    pool_free(p);
    assert_int_equal(mem_bytes_now(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pool_runs_each_task_exactly_once),
        cmocka_unit_test(test_pool_survives_many_short_runs),
        cmocka_unit_test(test_pool_wakes_sleepers),
        cmocka_unit_test(test_pool_shares_out_what_a_stuck_thread_has_left),
        cmocka_unit_test(test_pool_walks_in_order),
        cmocka_unit_test(test_pool_null_runs_on_the_caller),
        cmocka_unit_test(test_pool_defaults_to_the_cores),
        cmocka_unit_test(test_pool_refuses_absurd_sizes),
        cmocka_unit_test(test_pool_new_reports_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
