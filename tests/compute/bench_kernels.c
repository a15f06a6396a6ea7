// SPDX-License-Identifier: Apache-2.0
// Speeds of the device's operations per level: products for each element type with one row of x,
// which should run at the speed of memory, and with many, which should run at the speed of
// arithmetic.
#include "check_kernels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/os.h"
#include "base/pool.h"
#include "compute/cpu/cpu.h"
#include "compute_util.h"

enum {
    COLUMNS = 3840,
    PREFILL_ROWS = 256,
    MATRIX_BYTES_MIN = 256 << 20, // beyond any cache that two cores have for themselves
};
// The best of the runs that fit this time: others may be using the machine.
static const double seconds_min = 0.25;

struct read_job {
    const uint64_t *data;
    size_t n_words; // per task
    uint64_t *sums;
};

static void read_task(void *context, size_t task, size_t thread)
{
    (void)thread;
    const struct read_job *job = context;
    const uint64_t *at = job->data + task * job->n_words;
    uint64_t sums[8] = {0};
    for (size_t i = 0; i < job->n_words; i += 8) {
        for (size_t k = 0; k < 8; k++) {
            sums[k] += at[i + k];
        }
    }
    for (size_t k = 0; k < 8; k++) {
        job->sums[task] += sums[k];
    }
}

// Bytes per second that all threads together read of a block.
static double read_rate(struct pool *pool, const void *data, size_t size)
{
    enum { TASKS = 64 };
    uint64_t sums[TASKS] = {0};
    const size_t n_words = size / TASKS / 64 * 8;
    double best = (double)INFINITY;
    for (size_t i = 0; i < 5; i++) {
        const double begin = os_seconds();
        struct read_job job = {data, n_words, sums};
        pool_run(pool, TASKS, read_task, &job);
        const double s = os_seconds() - begin;
        best = s < best ? s : best;
    }
    // The sums are looked at so that no read is left out.
    return (double)(TASKS * n_words * 8) / best + (double)(sums[0] & 1) * 1e-9;
}

static void bench_memory(struct pool *pool)
{
    const size_t size = (size_t)256 << 20;
    uint64_t *data = test_alloc(size);
    memset(data, 1, size);
    printf("memory read, %zu threads: %.1f GB/s\n", pool_threads(pool),
           read_rate(pool, data, size) * 1e-9);
    mem_free(data);
}

static struct device *device_at(const char *level, enum carat_activations activations)
{
    struct device *dev = NULL;
    const struct device_options options = {.activations = activations};
    const struct device_limits limits = {.rows_max = PREFILL_ROWS,
                                         .columns_max = COLUMNS,
                                         .head_dim_max = 512,
                                         .heads_max = 16,
                                         .keys_max = 32768};
    setenv("CARAT_CPU", level, 1);
    if (device_new_cpu(&dev, &options, NULL)) {
        return NULL;
    }
    if (device_reserve(dev, &limits, NULL)) {
        device_free(dev);
        return NULL;
    }
    return dev;
}

static double time_linear(struct device *dev, const struct weight *w, size_t n_rows)
{
    struct rng rng = {.state = 1};
    struct tensor x = tensor_make(test_alloc(n_rows * COLUMNS * 4), n_rows, COLUMNS);
    struct tensor y = tensor_make(test_alloc(n_rows * w->rows * 4), n_rows, w->rows);
    rng_fill(&rng, x.data, n_rows * COLUMNS);
    op_linear(dev, &y, x, &w, 1);
    double best = (double)INFINITY;
    const double begin = os_seconds();
    for (double now = begin; now - begin < seconds_min;) {
        const double before = now;
        op_linear(dev, &y, x, &w, 1);
        now = os_seconds();
        best = now - before < best ? now - before : best;
    }
    mem_free(x.data);
    mem_free(y.data);
    return best;
}

static void bench_type(struct pool *pool, const char *level, enum dtype type,
                       enum carat_activations activations, const char *word)
{
    char title[64];
    const bool is_q8 = activations == CARAT_ACTIVATIONS_AUTO && kern_codings[type].sub_block != 0;
    snprintf(title, sizeof(title), "%-10s %-6s %s", level, dtypes[type].name,
             is_q8 ? "int8" : "float");
    const bool repeats_float =
        activations == CARAT_ACTIVATIONS_AUTO && kern_codings[type].sub_block == 0;
    struct device *dev =
        strstr(title, word) && !repeats_float ? device_at(level, activations) : NULL;
    if (!dev) {
        return;
    }
    size_t row_size = 0;
    double one = 0;
    struct rng rng = {.state = 2};
    if (!dtype_row_size(&row_size, type, COLUMNS)) {
        device_free(dev);
        return;
    }
    // One block of rows, over and over: random bytes take longer to make than to multiply.
    const size_t n_rows = MATRIX_BYTES_MIN / row_size / 256 * 256;
    struct matrix m = matrix_new(&rng, type, 256, COLUMNS, false);
    struct weight w = m.w;
    w.rows = n_rows;
    w.packed = mem_new_filled(n_rows * row_size, NULL);
    require(w.packed);
    for (size_t r = 0; r < n_rows; r += 256) {
        memcpy(w.packed + r * row_size, m.w.packed, 256 * row_size);
    }
    printf("%s:", title);
    for (size_t n = 1; n <= 16; n *= 2) {
        const double s = time_linear(dev, &w, n);
        if (n == 1) {
            printf(" 1 row %5.1f GB/s, reading alone %.1f; rows in the time of one:",
                   (double)(n_rows * row_size) / s * 1e-9,
                   read_rate(pool, w.packed, n_rows * row_size) * 1e-9);
            one = s;
        } else {
            printf(" %zu: %.1f", n, (double)n * one / s);
        }
    }
    w.rows = 1024;
    const double many = time_linear(dev, &w, PREFILL_ROWS);
    printf("; %d rows %6.1f GMAC/s\n", PREFILL_ROWS,
           (double)PREFILL_ROWS * COLUMNS * 1024 / many * 1e-9);
    mem_free(w.packed);
    matrix_release(&m);
    device_free(dev);
}

// What runs beside the products, in a row of the 12B model.
static void bench_rows(const char *level, const char *word)
{
    enum { N = 15360, TIMES = 200 };
    char title[64];
    struct kern k;
    snprintf(title, sizeof(title), "%-10s rows", level);
    if (!strstr(title, word) || !cpu_kern_init_level(&k, level)) {
        return;
    }
    struct rng rng = {.state = 5};
    float *x = test_alloc(N * 4);
    float *y = test_alloc(N * 4);
    uint8_t *block = test_alloc(N / 32 * 60);
    rng_fill(&rng, x, N);
    const struct panel panel = {.codes = (int8_t *)block,
                                .scale = (float *)(void *)(block + N),
                                .minus_32 = (int32_t *)(void *)(block + N + N / 8),
                                .sum_32 = (float *)(void *)(block + N + N / 8 * 2),
                                .minus_16 = (int32_t *)(void *)(block + N + N / 8 * 3),
                                .sum_16 = (float *)(void *)(block + N + N / 8 * 5),
                                .n_rows = 1,
                                .order = k.order};
    const double begin = os_seconds();
    for (size_t i = 0; i < TIMES; i++) {
        k.norm(y, x, x, N, 1e-6f);
    }
    const double after_norm = os_seconds();
    for (size_t i = 0; i < TIMES; i++) {
        k.geglu(y, x, x, N);
    }
    const double after_geglu = os_seconds();
    for (size_t i = 0; i < TIMES; i++) {
        k.pack(panel, x, N, N);
    }
    const double scale = 1e9 / TIMES / N;
    printf("%s: ns per element: norm %.3f, geglu %.3f, pack %.3f\n", title,
           (after_norm - begin) * scale, (after_geglu - after_norm) * scale,
           (os_seconds() - after_geglu) * scale);
    mem_free(x);
    mem_free(y);
    mem_free(block);
}

void bench_kernels(const char *word)
{
    struct pool *pool = NULL;
    if (pool_new(&pool, 0, NULL)) {
        return;
    }
    bench_memory(pool);
    const char *level;
    for (size_t i = 0; (level = cpu_level_name(i)) != NULL; i++) {
        bench_rows(level, word);
        bench_attend(level, word);
        for (size_t type = 0; type < DTYPE_COUNT_COMPUTE; type++) {
            bench_type(pool, level, type, CARAT_ACTIVATIONS_AUTO, word);
            bench_type(pool, level, type, CARAT_ACTIVATIONS_FLOAT, word);
        }
    }
    pool_free(pool);
}
