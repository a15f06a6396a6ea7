// SPDX-License-Identifier: Apache-2.0
// Speeds of attention with the shapes of the 12B model: one row (a step of decoding), a few (a
// draft) and many (a chunk of a prompt), at several depths and in both small types of the cache.
// What it can reach is printed beside it: float multiply-adds against the level's peak, and bytes.
#include "check_kernels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/os.h"
#include "base/pool.h"
#include "compute/cpu/cpu.h"
#include "compute_util.h"

enum {
    HEADS = 16,
    PAIRS = 64,
    ROWS_MAX = 256,
    WINDOW = 1024,
    LAYERS_MAX = 8, // caches used in turn, so that none is found in the processor's own
};
static const double seconds_min = 0.2;

struct bench {
    struct device *dev;
    double peak; // multiply-adds per second of all threads
    struct kv_view layers[LAYERS_MAX];
    size_t n_layers;
    size_t at; // the layer that is next
    uint8_t *memory;
    float *norm;
    float *table;
};

struct peak_job {
    const struct kern *kern;
    uint64_t counts[64];
};

static void peak_task(void *context, size_t task, size_t thread)
{
    (void)thread;
    struct peak_job *job = context;
    uint8_t sink[64];
    job->counts[task] = job->kern->peak_f32(sink, 200000);
}

static double peak_of(const char *level)
{
    struct kern kern;
    struct pool *pool = NULL;
    double best = 0;
    if (!cpu_kern_init_level(&kern, level) || !kern.peak_f32 || pool_new(&pool, 0, NULL)) {
        return 0;
    }
    struct peak_job job = {.kern = &kern};
    for (size_t i = 0; i < 20; i++) {
        const double begin = os_seconds();
        pool_run(pool, pool_threads(pool) < 64 ? pool_threads(pool) : 64, peak_task, &job);
        const double rate = (double)job.counts[0] * (double)pool_threads(pool);
        best = fmax(best, rate / (os_seconds() - begin));
    }
    pool_free(pool);
    return best;
}

static struct kv_view layer_shape(enum dtype type, size_t depth, bool is_full)
{
    struct kv_view kv = {.type = type,
                         .n_heads = is_full ? 1 : 8,
                         .head_dim = is_full ? 512 : 256,
                         .capacity = is_full ? depth + ROWS_MAX : WINDOW,
                         .window = is_full ? 0 : WINDOW,
                         .recent_capacity = is_full ? 0 : ROWS_MAX,
                         .n_pairs = PAIRS};
    if (!dtype_row_size(&kv.row_size, type, kv.head_dim)) {
        abort();
    }
    return kv;
}

static uint8_t *take(uint8_t **at, size_t size)
{
    uint8_t *block = *at;
    *at += size;
    return block;
}

static void bench_init(struct bench *b, struct kv_view shape)
{
    struct rng rng = {.state = 4};
    const size_t line = shape.n_heads * shape.capacity * shape.row_size;
    const size_t recent = shape.n_heads * shape.recent_capacity * shape.row_size;
    const size_t layer = shape.window ? 2 * (line + recent) : line;
    const size_t rows = ((size_t)64 << 20) / layer;
    b->n_layers = rows < 1 ? 1 : rows > LAYERS_MAX ? LAYERS_MAX : rows;
    b->memory = test_alloc(b->n_layers * layer);
    b->norm = test_alloc(shape.head_dim * 4);
    b->table = test_alloc(shape.capacity * PAIRS * 2 * 4);
    rng_fill(&rng, b->norm, shape.head_dim);
    rng_fill(&rng, b->table, shape.capacity * PAIRS * 2);
    struct matrix m = matrix_new(&rng, shape.type, 256, shape.head_dim, false);
    for (size_t i = 0; i + 256 * shape.row_size <= b->n_layers * layer; i += 256 * shape.row_size) {
        memcpy(b->memory + i, m.block, 256 * shape.row_size);
    }
    matrix_release(&m);
    uint8_t *at = b->memory;
    for (size_t i = 0; i < b->n_layers; i++) {
        struct kv_view kv = shape;
        kv.values = take(&at, line);
        kv.recent_values = take(&at, recent);
        if (kv.window) {
            kv.keys = take(&at, line);
            kv.recent_keys = take(&at, recent);
        }
        kv.key_norm = b->norm;
        kv.rope_table = b->table;
        b->layers[i] = kv;
    }
}

static void bench_release(struct bench *b)
{
    mem_free(b->memory);
    mem_free(b->norm);
    mem_free(b->table);
}

// Keys that n rows from position first on see together.
static double keys_seen(const struct kv_view *kv, size_t first, size_t n)
{
    double total = 0;
    for (size_t i = first; i < first + n; i++) {
        total += (double)(kv->window && i + 1 > kv->window ? kv->window : i + 1);
    }
    return total;
}

static void bench_rows_at(struct bench *b, const char *title, size_t depth, size_t n_rows)
{
    const struct kv_view *kv = &b->layers[0];
    const size_t columns = HEADS * kv->head_dim;
    struct rng rng = {.state = 3};
    struct tensor q = tensor_make(test_alloc(n_rows * columns * 4), n_rows, columns);
    struct tensor out = tensor_make(test_alloc(n_rows * columns * 4), n_rows, columns);
    rng_fill(&rng, q.data, n_rows * columns);
    double best = (double)INFINITY;
    const double begin = os_seconds();
    double now = begin;
    for (size_t i = 0; now - begin < seconds_min || i < 2 * b->n_layers; i++) {
        op_attend(b->dev, out, q, &b->layers[i % b->n_layers], HEADS, depth, NULL);
        const double after = os_seconds();
        best = after - now < best && i >= b->n_layers ? after - now : best;
        now = after;
    }
    const double macs = 2 * keys_seen(kv, depth, n_rows) * (double)columns;
    const size_t n_keys = kv->window ? kv->window + n_rows - 1 : depth + n_rows;
    const double bytes = (double)((kv->window ? 2 : 1) * n_keys * kv->n_heads * kv->row_size);
    printf("%s depth %6zu, %3zu rows: %9.3f ms, %6.1f GMAC/s, %3.0f %% of the peak, %5.1f GB/s\n",
           title, depth, n_rows, best * 1e3, macs / best * 1e-9, 100 * macs / best / b->peak,
           bytes / best * 1e-9);
    mem_free(q.data);
    mem_free(out.data);
}

static struct device *device_at(const char *level)
{
    struct device *dev = NULL;
    const struct device_options options = {0};
    const struct device_limits limits = {
        .head_dim_max = 512, .heads_max = HEADS, .keys_max = 66560};
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

static void bench_layer(const char *level, enum dtype type, bool is_full, const char *word)
{
    static const size_t depths[] = {1024, 4096, 16384, 65536};
    static const size_t rows[] = {1, 8, ROWS_MAX};
    char title[64];
    snprintf(title, sizeof(title), "%-10s attend %-7s %-4s", level, is_full ? "full" : "sliding",
             dtypes[type].name);
    struct bench b = {.dev = strstr(title, word) ? device_at(level) : NULL};
    if (!b.dev) {
        return;
    }
    b.peak = peak_of(level);
    for (size_t d = 0; d < (is_full ? 4 : 1); d++) {
        bench_init(&b, layer_shape(type, depths[d], is_full));
        for (size_t r = 0; r < 3; r++) {
            bench_rows_at(&b, title, depths[d], rows[r]);
        }
        bench_release(&b);
    }
    device_free(b.dev);
}

void bench_attend(const char *level, const char *word)
{
    bench_layer(level, DTYPE_F16, false, word);
    bench_layer(level, DTYPE_Q8_0, false, word);
    bench_layer(level, DTYPE_F16, true, word);
    bench_layer(level, DTYPE_Q8_0, true, word);
}
