// SPDX-License-Identifier: Apache-2.0
// The CPU device: its life, its scratch, and the operations that go element by element. Rows and
// long columns are cut into tasks; products and attention have files of their own.
#include <math.h>
#include <stdint.h>

#include "base/error.h"
#include "base/mem.h"
#include "compute/cpu/cpu.h"

enum {
    // Below this many elements threads cost more than they bring.
    PARALLEL_MIN = 16384,
    COLUMNS_PER_TASK = 4096,
    EMBED_PIECE = 512, // columns, a multiple of every block
};

static void cpu_free(struct device *base)
{
    struct cpu_device *dev = (struct cpu_device *)base;
    const size_t n_threads = dev->pool ? pool_threads(dev->pool) : 0;
    for (size_t i = 0; dev->threads && i < n_threads; i++) {
        mem_free(dev->threads[i]);
    }
    mem_free(dev->threads);
    mem_free(dev->panels);
    mem_free(dev->partials);
    pool_free(dev->pool);
    mem_free(dev);
}

static const char *cpu_level(const struct device *base)
{
    return ((const struct cpu_device *)base)->kern.name;
}

static bool cpu_multiplies_int8(const struct device *base, enum dtype type)
{
    return ((const struct cpu_device *)base)->uses_int8 && kern_codings[type].sub_block != 0;
}

static size_t cpu_threads(const struct device *base)
{
    return pool_threads(((const struct cpu_device *)base)->pool);
}

static int cpu_wait(struct device *base, struct carat_error *err)
{
    (void)base;
    (void)err;
    return 0; // every operation is done when it returns, and none can fail
}

static void *cpu_alloc(struct device *base, size_t size, struct carat_error *err)
{
    (void)base;
    return mem_new(size, err);
}

static void cpu_release(struct device *base, void *block)
{
    (void)base;
    mem_free(block);
}

// ------------------------------------------------------------------------------------ scratch

bool cpu_scratch_plan(struct cpu_scratch *out, const struct device_limits *limits)
{
    struct cpu_scratch s;
    if (!cpu_linear_panels_size(&s.panels, limits) ||
        !cpu_attend_partials_size(&s.partials, limits) ||
        !cpu_attend_thread_size(&s.thread, limits)) {
        return false;
    }
    if (s.thread < cpu_linear_thread_size()) {
        s.thread = cpu_linear_thread_size();
    }
    *out = s;
    return true;
}

size_t device_scratch_size(const struct device_limits *limits, size_t n_threads)
{
    struct cpu_scratch s;
    size_t total;
    if (!cpu_scratch_plan(&s, limits) || !size_mul(&total, s.thread, n_threads) ||
        !size_add(&total, total, s.panels) || !size_add(&total, total, s.partials)) {
        return SIZE_MAX;
    }
    return total;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

// Replaces a block by one of this size; the old content is of no use.
static int renew(void *block_at, size_t size, struct carat_error *err)
{
    void **at = block_at;
    void *block = mem_new(size, err);
    if (!block) {
        return CARAT_E_MEMORY;
    }
    mem_free(*at);
    *at = block;
    return 0;
}

static int cpu_reserve(struct device *base, const struct device_limits *limits,
                       struct carat_error *err)
{
    struct cpu_device *dev = (struct cpu_device *)base;
    const struct device_limits all = {
        .rows_max = larger(limits->rows_max, dev->limits.rows_max),
        .columns_max = larger(limits->columns_max, dev->limits.columns_max),
        .head_dim_max = larger(limits->head_dim_max, dev->limits.head_dim_max),
        .heads_max = larger(limits->heads_max, dev->limits.heads_max),
        .keys_max = larger(limits->keys_max, dev->limits.keys_max),
    };
    struct cpu_scratch s;
    if (!cpu_scratch_plan(&s, &all)) {
        return fail(err, CARAT_E_MEMORY, "scratch for %zu rows of %zu columns does not fit memory",
                    all.rows_max, all.columns_max);
    }
    const size_t n_threads = pool_threads(dev->pool);
    int rc = renew(&dev->panels, s.panels, err);
    if (!rc) {
        rc = renew(&dev->partials, s.partials, err);
    }
    for (size_t i = 0; !rc && i < n_threads; i++) {
        rc = renew(&dev->threads[i], s.thread, err);
    }
    if (!rc) {
        dev->limits = all;
    }
    return rc;
}

// ------------------------------------------------------------------------------------ operations

// One of the operations below, cut into rows and pieces of columns.
struct rows_job {
    struct cpu_device *dev;
    struct tensor out;
    struct tensor a;
    struct tensor b;
    size_t pieces; // per row
    size_t piece;  // columns in a piece
    size_t group;  // norm: columns normed together; rope: head size
    size_t n_pairs;
    const float *w; // norm: weight; rope: table; add_row: the row
    const float *bias;
    float number; // eps, scale, cap
    const struct weight *weight;
    const int32_t *tokens;
};

struct place {
    size_t row;
    size_t column;
    size_t n; // columns
};

static struct place place_of(const struct rows_job *job, size_t task)
{
    struct place p = {.row = task / job->pieces, .column = task % job->pieces * job->piece};
    const size_t left = job->out.columns - p.column;
    p.n = left < job->piece ? left : job->piece;
    return p;
}

static float *at(struct tensor t, struct place p)
{
    return t.data + p.row * t.stride + p.column;
}

// Cuts rows into pieces of at most about COLUMNS_PER_TASK columns, whole multiples of unit.
static void run_rows(struct rows_job *job, size_t unit, pool_task task)
{
    const size_t columns = job->out.columns;
    if (columns == 0 || job->out.rows == 0) {
        return;
    }
    job->piece = unit >= COLUMNS_PER_TASK ? unit : COLUMNS_PER_TASK / unit * unit;
    job->pieces = (columns + job->piece - 1) / job->piece;
    const bool is_small = columns < PARALLEL_MIN / job->out.rows;
    pool_run(is_small ? NULL : job->dev->pool, job->out.rows * job->pieces, task, job);
}

static void embed_task(void *context, size_t task, size_t thread)
{
    (void)thread;
    const struct rows_job *job = context;
    const struct weight *w = job->weight;
    const int32_t token = job->tokens[task];
    require(token >= 0);
    require((size_t)token < w->rows);
    float *out = job->out.data + task * job->out.stride;
    const uint8_t *strip = w->packed + (size_t)token / KERN_LANES * w->strip_size;
    uint8_t row[EMBED_PIECE * sizeof(float)];
    for (size_t k = 0; k < w->columns; k += EMBED_PIECE) {
        const size_t n = w->columns - k < EMBED_PIECE ? w->columns - k : EMBED_PIECE;
        kern_packed_row(row, strip, (size_t)token % KERN_LANES, k, n, w->type);
        job->dev->kern.unpack[w->type](out + k, row, n);
    }
    job->dev->kern.scale(out, w->columns, job->number);
}

static void cpu_embed(struct device *base, struct tensor out, const struct weight *w,
                      const int32_t *tokens, float scale)
{
    struct rows_job job = {.dev = (struct cpu_device *)base,
                           .out = out,
                           .weight = w,
                           .tokens = tokens,
                           .number = scale};
    run_rows(&job, out.columns, embed_task);
}

static void norm_task(void *context, size_t task, size_t thread)
{
    (void)thread;
    const struct rows_job *job = context;
    const struct place p = place_of(job, task);
    for (size_t i = 0; i < p.n; i += job->group) {
        job->dev->kern.norm(at(job->out, p) + i, at(job->a, p) + i, job->w, job->group,
                            job->number);
    }
}

static void cpu_norm(struct device *base, struct tensor out, struct tensor x, const float *w,
                     size_t group, float eps)
{
    struct rows_job job = {.dev = (struct cpu_device *)base,
                           .out = out,
                           .a = x,
                           .w = w,
                           .group = group,
                           .number = eps};
    run_rows(&job, group, norm_task);
}

static void layer_norm_task(void *context, size_t task, size_t thread)
{
    (void)thread;
    const struct rows_job *job = context;
    job->dev->kern.layer_norm(job->out.data + task * job->out.stride,
                              job->a.data + task * job->a.stride, job->w, job->bias,
                              job->out.columns, job->number);
}

static void cpu_layer_norm(struct device *base, struct tensor out, struct tensor x, const float *w,
                           const float *b, float eps)
{
    struct rows_job job = {
        .dev = (struct cpu_device *)base, .out = out, .a = x, .w = w, .bias = b, .number = eps};
    run_rows(&job, out.columns, layer_norm_task);
}

static void cpu_rope_table(struct device *base, float *table, const float *inv_freq, size_t n_pairs,
                           size_t first, size_t n)
{
    (void)base;
    for (size_t r = 0; r < n; r++) {
        for (size_t i = 0; i < n_pairs; i++) {
            const float angle = (float)(first + r) * inv_freq[i];
            table[(r * n_pairs + i) * 2] = cosf(angle);
            table[(r * n_pairs + i) * 2 + 1] = sinf(angle);
        }
    }
}

static void rope_task(void *context, size_t task, size_t thread)
{
    (void)thread;
    const struct rows_job *job = context;
    const struct place p = place_of(job, task);
    for (size_t i = 0; i < p.n; i += job->group) {
        job->dev->kern.rope(at(job->out, p) + i, job->w + p.row * job->n_pairs * 2, job->n_pairs,
                            job->group / 2);
    }
}

static void cpu_rope(struct device *base, struct tensor x, size_t head_dim, const float *table,
                     size_t n_pairs)
{
    struct rows_job job = {.dev = (struct cpu_device *)base,
                           .out = x,
                           .w = table,
                           .group = head_dim,
                           .n_pairs = n_pairs};
    run_rows(&job, head_dim, rope_task);
}

static void geglu_task(void *context, size_t task, size_t thread)
{
    (void)thread;
    const struct rows_job *job = context;
    const struct place p = place_of(job, task);
    job->dev->kern.geglu(at(job->out, p), at(job->a, p), at(job->b, p), p.n);
}

static void cpu_geglu(struct device *base, struct tensor out, struct tensor gate, struct tensor up)
{
    struct rows_job job = {.dev = (struct cpu_device *)base, .out = out, .a = gate, .b = up};
    run_rows(&job, KERN_LANES, geglu_task);
}

static void add_task(void *context, size_t task, size_t thread)
{
    (void)thread;
    const struct rows_job *job = context;
    const struct place p = place_of(job, task);
    job->dev->kern.add(at(job->out, p), at(job->a, p), at(job->b, p), p.n, job->number);
}

static void cpu_add(struct device *base, struct tensor out, struct tensor a, struct tensor b,
                    float scale)
{
    struct rows_job job = {
        .dev = (struct cpu_device *)base, .out = out, .a = a, .b = b, .number = scale};
    run_rows(&job, KERN_LANES, add_task);
}

static void add_row_task(void *context, size_t task, size_t thread)
{
    (void)thread;
    const struct rows_job *job = context;
    const struct place p = place_of(job, task);
    job->dev->kern.add(at(job->out, p), at(job->out, p), job->w + p.column, p.n, 1.0f);
}

static void cpu_add_row(struct device *base, struct tensor x, const float *row)
{
    struct rows_job job = {.dev = (struct cpu_device *)base, .out = x, .w = row};
    run_rows(&job, KERN_LANES, add_row_task);
}

static void scale_task(void *context, size_t task, size_t thread)
{
    (void)thread;
    const struct rows_job *job = context;
    const struct place p = place_of(job, task);
    job->dev->kern.scale(at(job->out, p), p.n, job->number);
}

static void cpu_scale(struct device *base, struct tensor x, float factor)
{
    struct rows_job job = {.dev = (struct cpu_device *)base, .out = x, .number = factor};
    run_rows(&job, KERN_LANES, scale_task);
}

static void softcap_task(void *context, size_t task, size_t thread)
{
    (void)thread;
    const struct rows_job *job = context;
    const struct place p = place_of(job, task);
    job->dev->kern.softcap(at(job->out, p), p.n, job->number);
}

static void cpu_softcap(struct device *base, struct tensor x, float cap)
{
    struct rows_job job = {.dev = (struct cpu_device *)base, .out = x, .number = cap};
    run_rows(&job, KERN_LANES, softcap_task);
}

// ------------------------------------------------------------------------------------ its life

static const struct device_ops cpu_ops = {
    .free = cpu_free,
    .level = cpu_level,
    .threads = cpu_threads,
    .multiplies_int8 = cpu_multiplies_int8,
    .wait = cpu_wait,
    .reserve = cpu_reserve,
    .alloc = cpu_alloc,
    .release = cpu_release,
    .new_weight = cpu_new_weight,
    .fill_weight = cpu_fill_weight,
    .free_weight = cpu_free_weight,
    .embed = cpu_embed,
    .norm = cpu_norm,
    .layer_norm = cpu_layer_norm,
    .linear = cpu_linear,
    .rope_table = cpu_rope_table,
    .rope = cpu_rope,
    .kv_store = cpu_kv_store,
    .kv_commit = cpu_kv_commit,
    .attend = cpu_attend,
    .geglu = cpu_geglu,
    .add = cpu_add,
    .add_row = cpu_add_row,
    .scale = cpu_scale,
    .softcap = cpu_softcap,
};

int device_new_cpu(struct device **out, const struct device_options *options,
                   struct carat_error *err)
{
    int rc = CARAT_E_MEMORY;
    struct cpu_device *dev = mem_new(sizeof(*dev), err);
    if (!dev) {
        goto out;
    }
    dev->base.ops = &cpu_ops;
    dev->uses_int8 = options->activations != CARAT_ACTIVATIONS_FLOAT;
    rc = cpu_kern_init(&dev->kern, err);
    if (rc) {
        goto out;
    }
    rc = pool_new(&dev->pool, options->n_threads, err);
    if (rc) {
        goto out;
    }
    dev->threads = mem_new_array(pool_threads(dev->pool), sizeof(*dev->threads), err);
    if (!dev->threads) {
        rc = CARAT_E_MEMORY;
        goto out;
    }
    *out = &dev->base;
    dev = NULL;
out:
    device_free(dev ? &dev->base : NULL);
    return rc;
}
