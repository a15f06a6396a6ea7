// SPDX-License-Identifier: Apache-2.0
// Measures what binds: how fast memory is handed out and read, and how fast each level of kernels
// can multiply and add. The best of several short runs counts: others may be using the machine.
#include "compute/limits.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/os.h"
#include "compute/cpu/cpu.h"

enum {
    N_RUNS = 7,
    N_ROUNDS = 20000, // of a peak kernel: some milliseconds
    TASKS_PER_THREAD = 8,
    PAGE_MIN = 4096,      // no system has smaller ones
    FRESH_TASK = 4 << 20, // bytes
    FRESH_PIECES = 9,     // odd: one is in the middle
};
// Far beyond what two cores have of any cache, and small beside any model.
static const size_t read_size = (size_t)512 << 20;
// Of fresh memory: so much that what some program has only just given back is little beside it, and
// so little that nothing else has to make room.
static const size_t fresh_size_max = (size_t)2 << 30;
static const size_t fresh_size_min = (size_t)64 << 20;

struct measure_job {
    const struct kern *kern;
    const uint8_t *memory;
    size_t task_size; // bytes
    size_t n_rounds;
    bool is_float;
    uint64_t *counts; // [tasks]
};

// One byte of each page: the system clears the others.
static void touch_task(void *context, size_t task, size_t thread)
{
    (void)thread;
    volatile uint8_t *memory = (uint8_t *)context + task * FRESH_TASK;
    for (size_t at = 0; at < FRESH_TASK; at += PAGE_MIN) {
        memory[at] = 1;
    }
}

static int compare_seconds(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

// Bytes per second that the system hands out, taken as a model's weights are. Memory is fresh only
// once, so it is taken in pieces, of which the middle one counts: some may be what a program has
// only just given back, in others this program had to wait. 0 when there is too little to tell.
static double measure_fresh(struct pool *pool)
{
    const uint64_t unused = os_memory_unused() / 2;
    const size_t size = unused < fresh_size_max ? (size_t)unused : fresh_size_max;
    const size_t n_tasks = size / FRESH_PIECES / FRESH_TASK; // of a piece
    uint8_t *memory =
        size < fresh_size_min ? NULL : mem_new_filled(FRESH_PIECES * n_tasks * FRESH_TASK, NULL);
    double seconds[FRESH_PIECES];
    if (!memory) {
        return 0;
    }
    for (size_t i = 0; i < FRESH_PIECES; i++) {
        const double begin = os_seconds();
        pool_run(pool, n_tasks, touch_task, memory + i * n_tasks * FRESH_TASK);
        seconds[i] = os_seconds() - begin;
    }
    mem_free(memory);
    qsort(seconds, FRESH_PIECES, sizeof(seconds[0]), compare_seconds);
    const double middle = seconds[FRESH_PIECES / 2];
    return middle > 0 ? (double)(n_tasks * FRESH_TASK) / middle : 0;
}

static void read_task(void *context, size_t task, size_t thread)
{
    (void)thread;
    const struct measure_job *job = context;
    _Alignas(64) uint8_t sink[64];
    job->kern->peak_read(sink, job->memory + task * job->task_size, job->task_size);
}

static void peak_task(void *context, size_t task, size_t thread)
{
    (void)thread;
    const struct measure_job *job = context;
    _Alignas(64) uint8_t sink[64];
    job->counts[task] = job->is_float ? job->kern->peak_f32(sink, job->n_rounds)
                                      : job->kern->peak_q8(sink, job->n_rounds);
}

// Seconds of the fastest run.
static double best_run(struct pool *pool, size_t n_tasks, pool_task run, struct measure_job *job)
{
    double best = 1e9;
    for (size_t i = 0; i < N_RUNS; i++) {
        double begin = os_seconds();
        pool_run(pool, n_tasks, run, job);
        double seconds = os_seconds() - begin;
        best = seconds < best ? seconds : best;
    }
    return best;
}

static double multiply_adds(struct pool *pool, size_t n_tasks, struct measure_job *job)
{
    double seconds = best_run(pool, n_tasks, peak_task, job);
    double total = 0;
    for (size_t i = 0; i < n_tasks; i++) {
        total += (double)job->counts[i];
    }
    return total / seconds;
}

static void measure_reading(struct carat_limits *out, struct pool *pool, size_t n_tasks,
                            struct measure_job *job)
{
    double size = (double)(job->task_size * n_tasks);
    double all = size / best_run(pool, n_tasks, read_task, job);
    double one = size / best_run(NULL, n_tasks, read_task, job);
    out->read_rate = all > out->read_rate ? all : out->read_rate;
    out->read_rate_one = one > out->read_rate_one ? one : out->read_rate_one;
}

static void measure_levels(struct carat_limits *out, struct pool *pool, size_t n_tasks,
                           struct measure_job *job)
{
    for (size_t i = 0; cpu_level_name(i) && out->n_levels < CARAT_LIMITS_LEVELS_MAX; i++) {
        struct kern kern;
        if (!cpu_kern_init_level(&kern, cpu_level_name(i))) {
            continue;
        }
        job->kern = &kern;
        measure_reading(out, pool, n_tasks, job);
        if (!kern.peak_q8) {
            continue; // plain C: as fast as the compiler made it
        }
        struct carat_level_limits *level = &out->levels[out->n_levels++];
        level->name = cpu_level_name(i);
        job->is_float = false;
        level->int8_rate = multiply_adds(pool, n_tasks, job);
        job->is_float = true;
        level->float_rate = multiply_adds(pool, n_tasks, job);
    }
}

int limits_measure(struct carat_limits *out, size_t n_threads, struct carat_error *err)
{
    struct pool *pool = NULL;
    uint64_t *counts = NULL;
    struct carat_limits limits = {0};
    uint8_t *memory = NULL;
    int rc = pool_new(&pool, n_threads, err);
    if (rc) {
        goto out;
    }
    limits.n_threads = pool_threads(pool);
    limits.fresh_rate = measure_fresh(pool); // before anything here gives memory back
    size_t n_tasks = limits.n_threads * TASKS_PER_THREAD;
    counts = mem_new_array(n_tasks, sizeof(*counts), err);
    memory = mem_new_array(read_size, 1, err);
    if (!counts || !memory) {
        rc = CARAT_E_MEMORY;
        goto out;
    }
    memset(memory, 1, read_size); // untouched pages would all be the same one
    struct measure_job job = {.memory = memory,
                              .task_size = read_size / n_tasks / 256 * 256,
                              .n_rounds = N_ROUNDS,
                              .counts = counts};
    measure_levels(&limits, pool, n_tasks, &job);
    *out = limits;
out:
    pool_free(pool);
    mem_free(counts);
    mem_free(memory);
    return rc;
}
